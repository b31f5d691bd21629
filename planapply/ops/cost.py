"""The cost of a cluster per hour, before and after a plan."""

from collections.abc import Iterable, Mapping

from planapply.fleet import ProviderClient
from planapply.model.diagnostics import PlanapplyError, warning
from planapply.model.node import NodeConfig
from planapply.model.plan import Action, Cost, Plan
from planapply.model.state import State
from planapply.provider import Price

Item = tuple[str | None, str | None, bool]
"""The size, the zone, and whether it is a spot VM."""


class PriceList:
    """The prices of a provider, each requested once; without prices, every sum is None."""

    def __init__(self, client: ProviderClient) -> None:
        self._client = client
        self._prices: dict[Item, Price] = {}

    @property
    def is_available(self) -> bool:
        """Return whether the provider has prices."""
        return self._client.has_prices

    @property
    def source(self) -> str:
        """Return the sources of the prices that were used."""
        return "; ".join(sorted({p.source for p in self._prices.values() if p.source}))

    def usd_per_hour(self, item: Item) -> float | None:
        """Return the price of a VM in USD per hour; None if it is unknown."""
        if not self.is_available:
            return None
        if item not in self._prices:
            self._prices[item] = self._client.price(*item)
        return self._prices[item].usd_per_hour

    def total(self, items: Iterable[Item]) -> float | None:
        """Return the sum of the known prices in USD per hour; None if there is none, but are items."""
        return self.total_for((item, 1.0) for item in items)

    def total_for(self, hours: Iterable[tuple[Item, float]]) -> float | None:
        """Return the cost of VMs that run for these hours, in USD, like `total`."""
        hours = list(hours)
        known = [(usd, h) for item, h in hours if (usd := self.usd_per_hour(item)) is not None]
        if hours and not known:
            return None
        return round(sum(usd * h for usd, h in known), 6)

    def unpriced(self, items: Iterable[Item]) -> list[Item]:
        """Return the items whose price is unknown; none if the provider has no prices at all."""
        return [i for i in items if self.is_available and self.usd_per_hour(i) is None]

    def unpriced_sizes(self, items: Iterable[Item]) -> tuple[str, ...]:
        """Return the sizes of the items whose price is unknown, each once."""
        return tuple(sorted({size or "the default size" for size, _, _ in self.unpriced(items)}))


def add_cost(plan: Plan, state: State, client: ProviderClient, max_cost: float | None) -> Plan:
    """Return the plan with its cost, if the provider has prices.

    Raises PlanapplyError if the cost exceeds `max_cost` (USD per hour).
    """
    prices = PriceList(client)
    if not prices.is_available:
        problem = f"provider {plan.provider} has no prices"
        return plan if max_cost is None else _warn_not_enforced(plan, problem)
    current = {name: (r.size, r.zone, r.spot) for name, r in state.nodes.items()}
    planned = _planned_items(plan, current)
    cost = Cost(
        before=prices.total(current.values()),
        after=prices.total(planned.values()),
        unknown=prices.unpriced_sizes(planned.values()),
        unknown_before=prices.unpriced_sizes(current.values()),
        source=prices.source,
    )
    if max_cost is not None and cost.after is not None and cost.after > max_cost:
        raise PlanapplyError(
            f"the cluster would cost {cost.after:.2f} USD/h, more than `max_cost` ({max_cost:.2f})",
            "Make the cluster smaller, or raise `max_cost` under [cluster].",
        )
    plan = plan.model_copy(update={"cost": cost})
    if max_cost is None or not cost.unknown:
        return plan
    return _warn_not_enforced(plan, f"no price known for {', '.join(cost.unknown)}")


def _planned_items(plan: Plan, current: Mapping[str, Item]) -> dict[str, Item]:
    planned = dict(current)
    for change in plan.changes:
        if change.kind == "node" and change.action is not Action.UPDATE:
            planned.pop(change.name, None)
            if change.after is not None:
                planned[change.name] = _first_choice(plan.configs[change.after])
    return planned


def _first_choice(config: NodeConfig) -> Item:
    size = config.size[0] if config.size else None
    zone = config.zones[0] if config.zones else None
    return size, zone, bool(config.spot)


def _warn_not_enforced(plan: Plan, problem: str) -> Plan:
    note = warning(
        f"cannot enforce `max_cost`: {problem}", "The limit applies to known prices only."
    )
    return plan.model_copy(update={"diagnostics": (*plan.diagnostics, note)})
