"""The cost of a cluster per hour, before and after a plan, and its limit `max_cost`."""

from collections.abc import Mapping

from planapply.diff import RefreshResult
from planapply.fleet import Budget, PriceList, ProviderClient
from planapply.fleet.prices import ROUNDING, Item
from planapply.model.diagnostics import PlanapplyError, note, warning
from planapply.model.node import NodeConfig
from planapply.model.plan import Action, Change, Cost, Plan
from planapply.providerkit import make_alternatives

NOT_COUNTED = ("disks", "addresses", "traffic")
"""Costs of a cluster that no sum contains."""


def add_cost(
    plan: Plan, refreshed: RefreshResult, client: ProviderClient, max_cost: float | None
) -> Plan:
    """Return the plan with its cost, if the provider has prices.

    Raises PlanapplyError if the plan launches VMs and the cost exceeds `max_cost` (USD per hour), or
    cannot be computed. A plan that does not raise the cost is always allowed.
    """
    prices = PriceList(client)
    launched = {
        change.name: plan.configs[change.after]
        for change in plan.changes
        if _launches(change) and change.after is not None
    }
    if not prices.is_available:
        return plan if max_cost is None else _without_prices(plan, client, bool(launched))
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
    if max_cost is not None:
        if launched:
            possible = [*planned.values(), *(i for items in alternatives.values() for i in items)]
            _check_limit(cost, max_cost, prices.unpriced_sizes(possible))
        if highest is not None:  # no alternative that costs more is launched
            highest = min(highest, max(max_cost, cost.before or 0.0))
    if highest is not None and cost.after is not None and highest > cost.after + ROUNDING:
        cost = cost.model_copy(update={"highest": highest})
    plan = plan.model_copy(
        update={"cost": cost.model_copy(update={"source": prices.source, "limit": max_cost})}
    )
    if max_cost is None or launched or not cost.unknown:
        return plan
    return _warn_not_enforced(plan, f"no price known for {', '.join(cost.unknown)}")


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


def _check_limit(cost: Cost, max_cost: float, unknown: tuple[str, ...]) -> None:
    if unknown:
        raise PlanapplyError(
            f"cannot enforce `max_cost`: no price known for {', '.join(unknown)}",
            "Set the price of each size in USD/h with `price` under [provider], such as "
            f'`price = {{ "{unknown[0]}" = 1.25 }}`; or remove `max_cost` under [cluster].',
            code="price_unknown",
        )
    before, after = cost.before or 0.0, cost.after or 0.0
    if after > max_cost + ROUNDING and after > before + ROUNDING:
        raise PlanapplyError(
            f"the cluster would cost {after:.2f} USD/h, more than `max_cost` ({max_cost:.2f})",
            "Make the cluster smaller, or raise `max_cost` under [cluster].",
            code="max_cost_exceeded",
        )


def _without_prices(plan: Plan, client: ProviderClient, launches: bool) -> Plan:
    if not client.costs_money:
        ignored = note(
            f"`max_cost` is ignored: VMs of the provider {plan.provider} cost nothing",
            "Remove `max_cost` under [cluster].",
        )
        return plan.model_copy(update={"diagnostics": (*plan.diagnostics, ignored)})
    problem = f"provider {plan.provider} has no prices"
    if launches:
        raise PlanapplyError(
            f"cannot enforce `max_cost`: {problem}",
            "Remove `max_cost` under [cluster].",
            code="price_unknown",
        )
    return _warn_not_enforced(plan, problem)


def _warn_not_enforced(plan: Plan, problem: str) -> Plan:
    warned = warning(
        f"cannot enforce `max_cost`: {problem}", "The limit applies to known prices only."
    )
    return plan.model_copy(update={"diagnostics": (*plan.diagnostics, warned)})
