"""Prices of VMs, and the limit that `max_cost` sets while VMs are launched."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from planapply.fleet.provider_client import ProviderClient
from planapply.model.state import Choice, State
from planapply.provider import Price

Item = tuple[str | None, str | None, bool]
"""The size, the zone, and whether it is a spot VM."""
ROUNDING = 1e-9
"""USD per hour; sums of the same prices in another order differ by less."""


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

    @property
    def costs_money(self) -> bool:
        """Return whether the provider's VMs cost money."""
        return self._client.costs_money

    def usd_per_hour(self, item: Item) -> float | None:
        """Return the price of a VM in USD per hour; None if it is unknown."""
        if not self.is_available:
            return None
        if item not in self._prices:
            self._prices[item] = self._client.price(*item)
        return self._prices[item].usd_per_hour

    def loaded(self, item: Item) -> float | None:
        """Return a price that was requested before; None if it is unknown or was not."""
        price = self._prices.get(item)
        return None if price is None else price.usd_per_hour

    def estimate(self, item: Item) -> float | None:
        """Return a price that was requested before, if need be of another zone; None if it is unknown."""
        if (usd := self.loaded(item)) is not None:
            return usd
        size, _, spot = item
        similar = [self.loaded(known) for known in self._prices if known[::2] == (size, spot)]
        return max((usd for usd in similar if usd is not None), default=None)

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


@dataclass
class Budget:
    """The limit of what the cluster may cost per hour, which binds at every launch.

    A cluster that costs more than `max_cost` already may be changed as long as it does not cost more
    than before.
    """

    prices: PriceList
    max_cost: float
    """USD per hour."""
    before: Sequence[Item]
    """The VMs that exist before the change."""
    gone: frozenset[str] = frozenset()
    """Nodes in the state whose VM no longer exists."""

    @cached_property
    def limit(self) -> float:
        """Return `max_cost`, or the cost before the change if that is higher, in USD per hour."""
        return max(self.max_cost, sum(self.prices.loaded(item) or 0.0 for item in self.before))

    def items(self, state: State) -> list[Item]:
        """Return the VMs that exist or may exist: those of nodes, and those of open intents."""
        items: list[Item] = [
            (record.size, record.zone, record.spot)
            for name, record in state.nodes.items()
            if name not in self.gone
        ]
        for intent in state.intents.values():
            items += [_item(intent.choice) for name in intent.names if name not in state.nodes]
        return items

    def load(self, items: Iterable[Item], choices: Iterable[Choice]) -> None:
        """Request all prices that `refusal` needs; raises ProviderFailed."""
        for item in {*items, *map(_item, choices), *self.before}:
            self.prices.usd_per_hour(item)

    def refusal(self, state: State, count: int, choice: Choice) -> str:
        """Return why `count` more VMs of a choice must not be launched; empty if they may be.

        Sends no request: the prices are loaded.
        """
        price = self.prices.loaded(_item(choice))
        if price is None:
            return f"no price is known for {choice.size or 'the default size'}"
        total = count * price + sum(self.prices.loaded(i) or 0.0 for i in self.items(state))
        if total <= self.limit + ROUNDING:
            return ""
        return (
            f"the cluster would cost {total:.2f} USD/h, more than `max_cost` ({self.max_cost:.2f})"
        )


def _item(choice: Choice) -> Item:
    return choice.size, choice.zone, choice.spot
