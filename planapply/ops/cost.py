"""What the cluster costs an hour, before and after a plan."""

from collections import Counter
from collections.abc import Iterable

from planapply.fleet import ProviderClient
from planapply.model.diagnostics import PlanapplyError, warning
from planapply.model.plan import Action, Cost, Plan
from planapply.model.state import State
from planapply.provider import Price

Item = tuple[str | None, str | None, bool]
"""Size, zone and whether it is a spot VM."""


def add_cost(plan: Plan, state: State, client: ProviderClient, max_cost: float | None) -> Plan:
    """The plan with its cost, where the provider knows prices.

    Raises PlanapplyError where it is above `max_cost` (USD an hour).
    """
    if not client.has_prices:
        return (
            plan if max_cost is None else _warn_not_enforced(plan, "this provider knows no prices")
        )
    current_items = {name: (r.size, r.zone, r.spot) for name, r in state.nodes.items()}
    planned_items = dict(current_items)
    for change in plan.changes:
        if change.kind == "node" and change.action is not Action.UPDATE:
            planned_items.pop(change.name, None)
            if change.after is not None:
                config = plan.configs[change.after]
                planned_items[change.name] = (
                    config.size[0] if config.size else None,
                    config.zones[0] if config.zones else None,
                    bool(config.spot),
                )
    prices: dict[Item, Price] = {
        item: client.price(*item) for item in {*current_items.values(), *planned_items.values()}
    }
    unknown = unpriced_sizes((item[0], prices[item]) for item in planned_items.values())
    cost = Cost(
        before=_sum(Counter(current_items.values()), prices),
        after=_sum(Counter(planned_items.values()), prices),
        unknown=unknown,
        unknown_before=unpriced_sizes((item[0], prices[item]) for item in current_items.values()),
        source=price_sources(prices.values()),
    )
    if max_cost is not None and cost.after is not None and cost.after > max_cost:
        raise PlanapplyError(
            f"the cluster would cost {cost.after:.2f} USD/h, and max_cost is {max_cost:.2f}",
            "Make it smaller, or raise `max_cost` under [cluster].",
        )
    plan = plan.model_copy(update={"cost": cost})
    if max_cost is None or not unknown:
        return plan
    return _warn_not_enforced(plan, f"no price is known of {', '.join(unknown)}")


def price_sources(prices: Iterable[Price]) -> str:
    """Whose prices these are, each named once."""
    return "; ".join(sorted({price.source for price in prices if price.source}))


def unpriced_sizes(prices: Iterable[tuple[str | None, Price]]) -> tuple[str, ...]:
    """Those sizes whose price is not known, each named once."""
    return tuple(
        sorted({size or "the default size" for size, p in prices if p.usd_per_hour is None})
    )


def _warn_not_enforced(plan: Plan, reason: str) -> Plan:
    note = warning(f"`max_cost` does not count all: {reason}", "Only what is known is held to it.")
    return plan.model_copy(update={"diagnostics": (*plan.diagnostics, note)})


def _sum(items: Counter[Item], prices: dict[Item, Price]) -> float | None:
    """The sum of what is known; None where nothing is."""
    known = [
        (number, usd)
        for item, number in items.items()
        if (usd := prices[item].usd_per_hour) is not None
    ]
    if items and not known:
        return None
    return round(sum(number * usd for number, usd in known), 6)
