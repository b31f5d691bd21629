"""The state, groups, and pending changes of a state-backed cluster."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from planapply.api.group_targets import GroupTargets
from planapply.api.state_session import StateSession
from planapply.dask.batching import RequestQueue
from planapply.dask.handles import VMWorker
from planapply.diff import RefreshResult
from planapply.fleet import Listener, PriceList, ProviderFailed
from planapply.fleet.prices import Item
from planapply.model.diagnostics import PlanapplyError
from planapply.model.event import Event
from planapply.model.names import format_names, split_name
from planapply.model.node import NodeConfig
from planapply.model.plan import Mode
from planapply.model.spec import Spec, WorkerGroup
from planapply.model.state import NodeRecord, State
from planapply.ops.adaptive_lock import AdaptiveLock
from planapply.ops.plan import PlanOptions, plan
from planapply.ops.recorded_spec import recorded_spec
from planapply.ops.refresh import refresh_state
from planapply.ops.scale import open_for_change
from planapply.ops.workspace import Workspace
from planapply.render.values import format_location, format_price_notes, format_usd
from planapply.store import open_store

BACKOFF = 60.0  # seconds without further launches by adaptivity after a failed launch


class ClusterContext:
    """The knowledge that a state-backed cluster has beyond that of a SpecCluster."""

    def __init__(
        self, workspace: Workspace, timeout: float, lock_timeout: float, on_event: Listener
    ) -> None:
        self.workspace, self.timeout, self.lock_timeout = workspace, timeout, lock_timeout
        self.session = StateSession(lambda: open_for_change(workspace, lock_timeout, on_event))
        self.queue = RequestQueue(self.session.open_fleet)
        self.adaptive_lock = AdaptiveLock(workspace.store.location, workspace.store.aws)
        self.targets = GroupTargets()
        self.gone_vms: set[str] = set()
        """VMs that no longer exist in the cloud, though the state may still have them."""
        self.applied: Spec | None = None
        """The spec that was last applied, if the state records it."""
        self.prices: PriceList | None = None
        """The prices of the provider; None before the first refresh."""
        self.location = ""
        """The provider and the region, such as `ec2, eu-west-1`."""
        self._backoff_until: dict[str, float] = {}

    def _open_unlocked(self) -> Workspace:
        """Return the workspace with a store of its own, since a change may hold the lock."""
        return replace(
            self.workspace,
            store=open_store(self.workspace.store.location, self.workspace.store.aws),
        )

    def refresh(self) -> RefreshResult:
        """Return the state compared with what exists in the cloud."""
        workspace = self._open_unlocked()
        state = workspace.read()
        client = workspace.connect(state)
        refreshed = refresh_state(workspace, client, state)
        self.workspace.follow(refreshed.state)
        self.applied = recorded_spec(state)
        self.location = format_location(state.provider, {**state.settings, **state.cloud})
        self.prices = PriceList(client)
        self.load_prices(refreshed.state.nodes.values())
        return refreshed

    @property
    def has_prices(self) -> bool:
        """Whether the provider knows prices."""
        return self.prices is not None and self.prices.is_available

    def load_prices(self, records: Iterable[NodeRecord]) -> None:
        """Request the prices of these VMs that are not known yet, for `running_cost`; never raise PlanapplyError."""
        if self.prices is not None:
            with suppress(PlanapplyError, ProviderFailed):  # the cost is shown as unknown
                self.prices.total(map(_item, records))

    def running_cost(self, records: Iterable[NodeRecord]) -> str:
        """Return the cost per hour of these VMs as a text; send no request.

        It is `none` if VMs of the provider cost nothing, and names what has no known price.
        """
        prices, items = self.prices, [*map(_item, records)]
        if prices is None or not self.has_prices:
            return "none" if prices is not None and not prices.costs_money else "unknown"
        found = {item: prices.loaded(item) for item in items}
        unknown = {size or "the default size" for (size, _, _), usd in found.items() if usd is None}
        known = [usd for item in items if (usd := found[item]) is not None]
        total = None if items and not known else round(sum(known), 6)
        return format_usd(total, unknown) + format_price_notes(prices.source, unknown)

    def read(self) -> State:
        """Return the state as it is recorded, without a request to the cloud."""
        state = self._open_unlocked().read()
        self.workspace.follow(state)
        self.applied = recorded_spec(state)
        return state

    def check_destroy(self) -> None:
        """Raise PlanapplyError if `protect` forbids destroying the cluster; change nothing."""
        plan(self._open_unlocked(), PlanOptions(mode=Mode.DESTROY, refresh=False))

    def make_entry(
        self, name: str, config: NodeConfig, record: NodeRecord | None = None
    ) -> dict[str, Any]:
        """Return the `worker_spec` entry of a node of this cluster (see `make_node_entry`)."""
        return make_node_entry(self.queue, name, config, record)

    def is_pending(self, entry: dict[str, Any]) -> bool:
        """Return whether an entry is a node that is still to be launched."""
        options = entry.get("options", {})
        return options.get("queue") is self.queue and "record" not in options

    def is_recorded(self, entry: dict[str, Any]) -> bool:
        """Return whether an entry is a node that is in the state."""
        options = entry.get("options", {})
        return options.get("queue") is self.queue and "record" in options

    def provisional_config(self, group: str) -> NodeConfig:
        """Return the configuration of a new node as far as the spec has it.

        The rest, such as the image, is resolved by the provider when the node is launched.
        """
        assert self.workspace.spec is not None
        settings = self.workspace.spec.workers[group]
        return NodeConfig(
            group=group,
            cls=settings.cls,
            options=settings.options,
            processes=settings.processes,
        )

    def is_elastic(self, name: str) -> bool:
        """Return whether a node's group has `min` and `max` rather than a `count`."""
        return split_name(name)[0] in self.elastic

    @property
    def has_elastic(self) -> bool:
        """Whether any group is elastic."""
        return bool(self.elastic)

    @property
    def elastic(self) -> dict[str, WorkerGroup]:
        """The groups with `min` and `max`, by name."""
        spec = self.workspace.spec
        return {n: g for n, g in spec.workers.items() if g.count is None} if spec else {}

    def find_group(self, name: str | None, verb: str = "scale") -> tuple[str, WorkerGroup]:
        """Return the elastic group of this name, or the only one; raise ValueError otherwise.

        The errors begin with `cannot VERB`.
        """
        if name is not None and not isinstance(name, str):
            raise TypeError(f"cannot {verb}: group must be the name of a group, not {name!r}")
        if self.workspace.spec is None:
            raise ValueError(
                f"cannot {verb} a cluster that was opened from its state alone: this state does not record "
                "the spec that was applied last. Run `planapply apply` again, or use Cluster.from_spec."
            )
        groups, elastic = self.workspace.spec.workers, self.elastic
        if name is not None and name not in groups:
            raise ValueError(
                f"cannot {verb} {name!r}: there is no such group. Groups: {', '.join(groups)}."
            )
        if name is not None and name not in elastic:
            raise ValueError(
                f"cannot {verb} {name!r}: the group has a `count`. Change the `count` in the spec, "
                "then run `planapply apply`."
            )
        if name is None and not elastic:
            example = next(iter(groups), None)
            raise ValueError(
                f"cannot {verb}: no group has `min` and `max`. In the spec, "
                + (
                    f"give {example!r} a `min` and `max` in place of `count`."
                    if example
                    else "add a group with `min` and `max`."
                )
            )
        if name is None and len(elastic) > 1:
            raise ValueError(
                f"cannot {verb}: several groups have `min` and `max` ({', '.join(elastic)}). "
                "Select one with group=…"
            )
        name = name or next(iter(elastic))
        return name, elastic[name]

    def check_bounds(self, name: str, nodes: int) -> None:
        """Raise ValueError if this number of nodes is outside the group's `min` and `max`."""
        if (nodes, nodes) != self.clamp(name, (nodes, nodes)):
            raise ValueError(
                f"cannot scale {name!r} to {nodes} nodes: the spec sets {self.format_bounds(name)}"
            )

    def clamp(self, name: str, bounds: tuple[int, int]) -> tuple[int, int]:
        """Return bounds in nodes, limited to the group's `min` and `max`."""
        least, most = self._bounds(name)
        low, high = (max(least, min(most, nodes)) for nodes in bounds)
        return low, high

    def format_bounds(self, name: str) -> str:
        """Format the group's `min` and `max` for an error."""
        least, most = self._bounds(name)
        return f"min = {least}, max = {most}"

    def worker_bounds(self, name: str) -> tuple[int, int]:
        """Return the group's `min` and `max` in Dask workers."""
        processes, (least, most) = self.elastic[name].processes, self._bounds(name)
        return least * processes, most * processes

    def _bounds(self, name: str) -> tuple[int, int]:
        group = self.elastic[name]
        return group.min or 0, group.max or 0

    def start_backoff(self, names: Iterable[str]) -> None:
        """Launch no more nodes of the groups of these nodes for a while."""
        now = self.workspace.clock.monotonic()
        self._backoff_until.update({split_name(name)[0]: now + BACKOFF for name in names})

    def is_backing_off(self, group: str) -> bool:
        """Return whether it is too early to launch more nodes of this group."""
        return self.workspace.clock.monotonic() < self._backoff_until.get(group, 0.0)


def make_node_entry(
    queue: RequestQueue, name: str | None, config: NodeConfig, record: NodeRecord | None = None
) -> dict[str, Any]:
    """Return a node's `worker_spec` entry; a node with a record is adopted, not launched.

    Without a name it is a template, which SpecCluster gives a number.
    """
    options: dict[str, Any] = {"config": config, "queue": queue}
    if name is not None:
        options["name"] = name
    if record is not None:
        options["record"] = record
    entry: dict[str, Any] = {"cls": VMWorker, "options": options}
    if config.processes > 1:
        entry["group"] = [f"-{i}" for i in range(config.processes)]
    return entry


def _item(record: NodeRecord) -> Item:
    return record.size, record.zone, record.spot


def format_event(event: Event) -> str:
    """Format an event as one line of a log."""
    return " ".join(filter(None, (event.event, format_names(event.names), event.message)))
