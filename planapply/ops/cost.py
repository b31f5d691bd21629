"""The cost of a cluster, before and after a plan, and its limits `max_cost` and `max_total_cost`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from planapply.diff import RefreshResult
from planapply.fleet import Budget, PriceList, ProviderClient
from planapply.fleet.prices import ROUNDING, Item
from planapply.model.desired import DesiredState
from planapply.model.diagnostics import PlanapplyError, note, warning
from planapply.model.node import NodeConfig
from planapply.model.plan import Action, Change, Cost, Plan
from planapply.ops.record import total_spending
from planapply.providerkit import make_alternatives
from planapply.render.values import format_total

NOT_COUNTED = ("disks", "addresses", "traffic")
"""Costs of a cluster that no sum contains."""


@dataclass(frozen=True)
class CostLimits:
    """The limits in the spec; None for no limit."""

    max_cost: float | None = None
    """USD per hour."""
    max_total_cost: float | None = None
    """USD over the life of the cluster."""

    @classmethod
    def of(cls, desired_state: DesiredState) -> Self:
        """Return the limits of a desired state."""
        return cls(desired_state.max_cost, desired_state.max_total_cost)

    @property
    def keys(self) -> str:
        """Return the names of the limits that are set, for messages."""
        keys = {"max_cost": self.max_cost, "max_total_cost": self.max_total_cost}
        return " and ".join(f"`{key}`" for key, value in keys.items() if value is not None)


def add_cost(
    plan: Plan, refreshed: RefreshResult, client: ProviderClient, limits: CostLimits = CostLimits()
) -> Plan:
    """Return the plan with its cost, if the provider has prices.

    Raises PlanapplyError if the plan launches VMs and the cost exceeds a limit, or cannot be computed. A
    plan that does not raise the cost is always within `max_cost`, and one that lowers it within
    `max_total_cost`.
    """
    prices = PriceList(client)
    launched = {
        change.name: plan.configs[change.after]
        for change in plan.changes
        if _launches(change) and change.after is not None
    }
    if not prices.is_available:
        return _without_prices(plan, client, limits, bool(launched)) if limits.keys else plan
    current = current_items(refreshed)
    planned = _planned_items(plan, current, launched)
    alternatives = {name: _alternatives(config) for name, config in launched.items()}
    cost = Cost(
        before=prices.total(current.values()),
        after=prices.total(planned.values()),
        unknown=prices.unpriced_sizes(planned.values()),
        unknown_before=prices.unpriced_sizes(current.values()),
        not_counted=NOT_COUNTED if client.costs_money else (),
    )
    highest = _highest(prices, planned, alternatives)
    max_cost = limits.max_cost
    if launched and limits.keys:
        possible = [*planned.values(), *(i for items in alternatives.values() for i in items)]
        _check_known(limits, prices.unpriced_sizes(possible))
        _check_max_cost(cost, max_cost)
        _check_max_total_cost(cost, limits.max_total_cost, refreshed, prices, client.clock.time())
    if max_cost is not None and highest is not None:  # no alternative that costs more is launched
        highest = min(highest, max(max_cost, cost.before or 0.0))
    if highest is not None and cost.after is not None and highest > cost.after + ROUNDING:
        cost = cost.model_copy(update={"highest": highest})
    plan = plan.model_copy(
        update={"cost": cost.model_copy(update={"source": prices.source, "limit": max_cost})}
    )
    if not limits.keys or launched or not cost.unknown:
        return plan
    return _warn_not_enforced(plan, limits, f"no price known for {', '.join(cost.unknown)}")


def make_budget(
    client: ProviderClient, refreshed: RefreshResult, max_cost: float | None
) -> Budget | None:
    """Return the limit for launches; None if there is no limit, or if the provider has no prices."""
    prices = PriceList(client)
    if max_cost is None or not prices.is_available:
        return None
    return Budget(prices, max_cost, [*current_items(refreshed).values()], refreshed.gone)


def current_items(refreshed: RefreshResult) -> dict[str, Item]:
    """Return the VMs of nodes, as far as they exist."""
    return {
        name: (record.size, record.zone, record.spot)
        for name, record in refreshed.state.nodes.items()
        if name not in refreshed.gone
    }


def _launches(change: Change) -> bool:
    return change.kind == "node" and change.action in (Action.CREATE, Action.REPLACE)


def _planned_items(
    plan: Plan, current: Mapping[str, Item], launched: Mapping[str, NodeConfig]
) -> dict[str, Item]:
    planned = dict(current)
    for change in plan.changes:
        if change.kind == "node" and change.action is not Action.UPDATE:
            planned.pop(change.name, None)
    return {**planned, **{name: _alternatives(config)[0] for name, config in launched.items()}}


def _alternatives(config: NodeConfig) -> list[Item]:
    """Return what may be launched for a config, the first choice first; pure, unlike the provider's."""
    return [(choice.size, choice.zone, choice.spot) for choice in make_alternatives(config)]


def _highest(
    prices: PriceList, planned: Mapping[str, Item], alternatives: Mapping[str, list[Item]]
) -> float | None:
    """Return the cost if each new node gets its most expensive alternative; None if none is known."""
    usd = [
        max((p for i in alternatives.get(name, [item]) if (p := prices.usd_per_hour(i))), default=0)
        for name, item in planned.items()
    ]
    return round(sum(usd), 6) if any(usd) else None


def _check_known(limits: CostLimits, unknown: tuple[str, ...]) -> None:
    if unknown:
        raise PlanapplyError(
            f"cannot enforce {limits.keys}: no price known for {', '.join(unknown)}",
            "Set the price of each size in USD/h with `price` under [provider], such as "
            f'`price = {{ "{unknown[0]}" = 1.25 }}`; or remove {limits.keys} under [cluster].',
            code="price_unknown",
        )


def _check_max_cost(cost: Cost, limit: float | None) -> None:
    before, after = cost.before or 0.0, cost.after or 0.0
    if limit is not None and after > limit + ROUNDING and after > before + ROUNDING:
        raise PlanapplyError(
            f"the cluster would cost {after:.2f} USD/h, more than `max_cost` ({limit:.2f})",
            "Make the cluster smaller, or raise `max_cost` under [cluster].",
            code="max_cost_exceeded",
        )


def _check_max_total_cost(
    cost: Cost, limit: float | None, refreshed: RefreshResult, prices: PriceList, now: float
) -> None:
    state = refreshed.state
    before, after = cost.before or 0.0, cost.after or 0.0
    if limit is None or after < before - ROUNDING:
        return
    # A cluster that does not exist has cost nothing yet, whatever the one before it has.
    spend = None if state.is_empty else total_spending(state, prices, now, refreshed.gone)
    so_far = spend.usd if spend else 0.0
    if so_far + after > limit + ROUNDING:
        shown = format_total(spend) if spend else "0.00"
        advice = "Make the cluster smaller, or raise `max_total_cost` under [cluster]."
        if before:
            advice = (
                f"Make the cluster cheaper than it is ({before:.2f} USD/h), destroy it, or raise "
                "`max_total_cost` under [cluster]."
            )
        raise PlanapplyError(
            f"the cluster has cost {shown} USD so far, and with {after:.2f} USD/h would exceed "
            f"`max_total_cost` ({limit:.2f} USD) within an hour",
            advice,
            code="max_total_cost_exceeded",
        )


def _without_prices(plan: Plan, client: ProviderClient, limits: CostLimits, launches: bool) -> Plan:
    if not client.costs_money:
        verb = "are" if " and " in limits.keys else "is"
        ignored = note(
            f"{limits.keys} {verb} ignored: VMs of the provider {plan.provider} cost nothing",
            f"Remove {limits.keys} under [cluster].",
        )
        return plan.model_copy(update={"diagnostics": (*plan.diagnostics, ignored)})
    problem = f"provider {plan.provider} has no prices"
    if launches:
        raise PlanapplyError(
            f"cannot enforce {limits.keys}: {problem}",
            f"Remove {limits.keys} under [cluster].",
            code="price_unknown",
        )
    return _warn_not_enforced(plan, limits, problem)


def _warn_not_enforced(plan: Plan, limits: CostLimits, problem: str) -> Plan:
    warned = warning(
        f"cannot enforce {limits.keys}: {problem}", "The limit applies to known prices only."
    )
    return plan.model_copy(update={"diagnostics": (*plan.diagnostics, warned)})
