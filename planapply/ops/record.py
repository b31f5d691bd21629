"""The entry of a change in the state's history, and the cost until then, in the change's own writes."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from planapply.diff.progress import Snapshot, compare, has_no_open_requests
from planapply.diff.spending import add_spending
from planapply.fleet import Clock, Journal, PriceList, ProviderClient, ProviderFailed, Stopped
from planapply.fleet.prices import Item
from planapply.model.diagnostics import PlanapplyError
from planapply.model.history import PastChange, Spend, add_change
from planapply.model.node import NodeConfig
from planapply.model.state import NodeRecord, State
from planapply.providerkit import make_alternatives
from planapply.store import LockInfo


class Recorder:
    """Keeps the entry of one change up to date, in the writes that the change makes anyway.

    The first write begins the entry, and each one says what was done until then. `is_reached` returns
    whether a state shows that all is done, so that the last write completes the entry. If the process
    dies, the entry has what was done until its last write. `gone` are nodes whose VM no longer exists,
    `adopted` those that the state as read did not contain.
    """

    def __init__(
        self,
        what: str,
        held: LockInfo,
        clock: Clock,
        state: State,
        *,
        prices: PriceList | None = None,
        gone: Collection[str] = (),
        adopted: Collection[str] = (),
    ) -> None:
        self._clock, self._prices = clock, prices
        self._start = clock.monotonic()
        self._entry = PastChange(
            started_at=clock.time(), who=held.who, pid=held.pid, lock=held.id, what=what
        )
        self._gone = _vms(state, gone)
        self._history = list(state.history)
        self._before = Snapshot.of(state, self._gone | _vms(state, adopted))
        self._records = [*state.nodes.values()]
        self._final: Any = None
        self._is_recorded = False
        self.is_reached: Callable[[State], bool] = has_no_open_requests
        self.expected: set[str] = set()
        """Nodes that must be there at the end, in addition to what `is_reached` requires."""
        self.strays = 0
        """The number of VMs that were terminated although they were none of the nodes."""

    def stamp(self, state: State) -> None:
        """Update the entry and the cost in a state that is about to be written."""
        now = self._clock.time()
        records = [*state.nodes.values()]
        done = compare(self._before, Snapshot.of(state, self._gone))
        self._entry = self._entry.model_copy(
            update={
                "group": next(iter(done.groups)) if len(done.groups) == 1 else "",
                "added": done.added,
                "changed": done.changed,
                "destroyed": done.destroyed + self.strays,
                "seconds": round(max(0.0, self._clock.monotonic() - self._start), 3),
                "outcome": self._final or ("done" if self.is_complete(state) else "running"),
                **self._cost_per_hour([r for r in records if r.vm not in self._gone]),
            }
        )
        state.history = add_change(self._history, self._entry)
        if self._prices is not None and self._prices.is_available:
            known = {record.vm: record for record in (*self._records, *records)}
            state.spend = add_spending(
                state.spend, known.values(), state.configs, self._price, now, self._gone
            )
        self._records, self._is_recorded = records, True

    def is_complete(self, state: State) -> bool:
        """Return whether a state shows that all of the change is done."""
        return self.is_reached(state) and state.nodes.keys() >= self.expected

    @property
    def counts(self) -> dict[str, int]:
        """Return how many nodes and resources were changed until the last write."""
        return {key: getattr(self._entry, key) for key in ("added", "changed", "destroyed")}

    def _price(self, record: NodeRecord) -> float | None:
        return self._prices.estimate(_item(record)) if self._prices else None

    def _cost_per_hour(self, records: Sequence[NodeRecord]) -> dict[str, Any]:
        if self._prices is None or not self._prices.is_available:
            return {}
        found = [(record.size, self._price(record)) for record in records]
        known = [usd for _, usd in found if usd is not None]
        return {
            "usd_per_hour": round(sum(known), 6) if known or not found else None,
            "unknown_prices": sorted(
                {size or "the default size" for size, u in found if u is None}
            ),
        }

    def finish(self, journal: Journal, outcome: str) -> None:
        """Record the outcome, unless the last write has: then this writes nothing."""
        if self._is_recorded and self._entry.outcome != outcome:
            self._final = outcome
            journal.update(lambda _: None)

    @contextmanager
    def watch(self, journal: Journal) -> Iterator[None]:
        """Record that an error, or a signal, ends the change."""
        try:
            yield
        except Exception as error:
            with suppress(Exception):  # the journal may be why
                self.finish(journal, "stopped" if isinstance(error, Stopped) else "failed")
            raise


def load_prices(
    client: ProviderClient, records: Iterable[NodeRecord], configs: Iterable[NodeConfig] = ()
) -> PriceList:
    """Return the prices of VMs, and of all alternatives of configs; without those that cannot be requested."""
    prices = PriceList(client)
    items = {
        *map(_item, records),
        *((c.size, c.zone, c.spot) for config in configs for c in make_alternatives(config)),
    }
    with suppress(PlanapplyError, ProviderFailed):
        for item in items:
            prices.usd_per_hour(item)
    return prices


def start_spending(state: State, prices: PriceList, now: float) -> None:
    """Begin the count of what a new cluster costs."""
    state.spend = Spend(until=now) if prices.is_available else None


def total_spending(
    state: State, prices: PriceList, now: float, gone: Collection[str] = ()
) -> Spend | None:
    """Return what the state's cluster has cost until now; None if the provider has no prices.

    `gone` are nodes whose VM no longer exists.
    """
    if not prices.is_available:
        return None
    return add_spending(
        state.spend,
        state.nodes.values(),
        state.configs,
        lambda record: prices.usd_per_hour(_item(record)),
        now,
        _vms(state, gone),
    )


def _vms(state: State, names: Iterable[str]) -> frozenset[str]:
    return frozenset(state.nodes[name].vm for name in names if name in state.nodes)


def _item(record: NodeRecord) -> Item:
    return record.size, record.zone, record.spot
