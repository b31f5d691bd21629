"""What a cluster that was adopted knows beside what SpecCluster does."""

import logging
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from planapply.api.adaptive_lock import AdaptiveLock
from planapply.api.state_session import StateSession
from planapply.dask.batching import RequestQueue
from planapply.dask.handles import VMWorker
from planapply.diff import RefreshResult
from planapply.fleet import Listener
from planapply.model.event import Event
from planapply.model.names import split_name, to_ranges
from planapply.model.node import NodeConfig
from planapply.model.spec import WorkerGroup
from planapply.model.state import NodeRecord, State
from planapply.ops.plan import PlanOptions, plan
from planapply.ops.scale import open_for_change, read_refreshed
from planapply.ops.workspace import Workspace
from planapply.store import open_store

logger = logging.getLogger("planapply")

BACKOFF = 60.0  # seconds in which adaptivity asks for no more nodes, after some could not be had


class ClusterContext:
    """The state of the cluster, its groups, and what was asked of it and is not done yet."""

    def __init__(
        self, workspace: Workspace, timeout: float, lock_timeout: float, on_event: Listener
    ) -> None:
        self.workspace, self.timeout, self.lock_timeout = workspace, timeout, lock_timeout
        self.session = StateSession(lambda: open_for_change(workspace, lock_timeout, on_event))
        self.queue = RequestQueue(self.session.open_fleet)
        self.adaptive_lock = AdaptiveLock(workspace.store.location)
        self.targets: dict[str, int] = {}
        """How many nodes a group shall have, where `scale` was asked for that."""
        self.reserved_names: set[str] = set()
        """Names that were given in this change, for nodes that are launched in it."""
        self.next_index: dict[str, int] = {}
        """As the state had it when it was last read."""
        self.gone_vms: set[str] = set()
        """VMs that the cloud does not show any more, though the state may have them."""
        self.leaving: set[str] = set()
        """Nodes that `scale_down` named."""
        self._backoff_until: dict[str, float] = {}

    def _open_unlocked(self) -> Workspace:
        """Without the lock; a store of its own, for a change may be under way."""
        return replace(self.workspace, store=open_store(self.workspace.store.location))

    def refresh(self) -> RefreshResult:
        """What runs."""
        return read_refreshed(self._open_unlocked())

    def read(self) -> State:
        """As the state has it, the cloud not being asked."""
        return self._open_unlocked().read()

    def check_destroy(self) -> None:
        """Raises PlanapplyError where `protect` forbids to end the cluster; changes nothing."""
        plan(self._open_unlocked(), PlanOptions(destroy=True, refresh=False))

    def make_entry(
        self, name: str, config: NodeConfig, record: NodeRecord | None = None
    ) -> dict[str, Any]:
        """As `make_node_entry`, with the queue of this cluster."""
        return make_node_entry(self.queue, name, config, record)

    def is_pending(self, entry: dict[str, Any]) -> bool:
        """Whether it is a node that is still to be launched."""
        options = entry.get("options", {})
        return options.get("queue") is self.queue and "record" not in options

    def is_recorded(self, entry: dict[str, Any]) -> bool:
        """Whether it is a node that the state has."""
        options = entry.get("options", {})
        return options.get("queue") is self.queue and "record" in options

    def provisional_config(self, group: str) -> NodeConfig:
        """Roughly what a node of this group is; what it is exactly, only the provider knows."""
        assert self.workspace.spec is not None
        settings = self.workspace.spec.workers[group]
        return NodeConfig(
            group=group,
            cls=settings.cls,
            options=settings.options,
            processes=settings.processes,
        )

    def is_elastic(self, name: str) -> bool:
        """Whether a node's group has `min` and `max` rather than a `count`."""
        return split_name(name)[0] in self._elastic()

    @property
    def has_elastic(self) -> bool:
        """Whether anything can be scaled."""
        return bool(self._elastic())

    def _elastic(self) -> dict[str, WorkerGroup]:
        spec = self.workspace.spec
        return {n: g for n, g in spec.workers.items() if g.count is None} if spec else {}

    def find_group(self, name: str | None) -> tuple[str, WorkerGroup]:
        """The elastic group of that name, or the only one; raises ValueError."""
        elastic = self._elastic()
        if self.workspace.spec is None:
            raise ValueError(
                "this cluster was opened by its state alone, and what its groups may grow to stands "
                "in the spec: use Cluster.from_spec"
            )
        known = f"elastic groups: {', '.join(elastic)}" if elastic else "there is no elastic group"
        if name is None:
            if len(elastic) != 1:
                raise ValueError(f"say which group: scale(n, group=…); {known}")
            [name] = elastic
        if name in elastic:
            return name, elastic[name]
        if name in self.workspace.spec.workers:
            raise ValueError(
                f"the group {name!r} has a `count`, which `planapply apply` changes; {known}"
            )
        raise ValueError(f"there is no group {name!r}; {known}")

    def check_bounds(self, name: str, nodes: int) -> None:
        """Raises ValueError where the spec does not allow so many nodes."""
        group = self._elastic()[name]
        minimum, maximum = group.min or 0, math.inf if group.max is None else group.max
        if not minimum <= nodes <= maximum:
            raise ValueError(
                f"{nodes} nodes of {name!r} are outside min = {minimum}, max = {maximum} of the spec"
            )

    def start_backoff(self, names: Iterable[str]) -> None:
        """These nodes could not be had: ask for no more of their groups for a while."""
        now = self.workspace.clock.monotonic()
        self._backoff_until.update({split_name(name)[0]: now + BACKOFF for name in names})

    def is_backing_off(self, group: str) -> bool:
        """Whether it is too early to ask for more."""
        return self.workspace.clock.monotonic() < self._backoff_until.get(group, 0.0)


def make_node_entry(
    queue: RequestQueue, name: str, config: NodeConfig, record: NodeRecord | None = None
) -> dict[str, Any]:
    """A node in a `worker_spec`; with a record it is adopted and not launched."""
    options: dict[str, Any] = {"name": name, "config": config, "queue": queue}
    if record is not None:
        options["record"] = record
    entry: dict[str, Any] = {"cls": VMWorker, "options": options}
    if config.processes > 1:
        entry["group"] = [f"-{i}" for i in range(config.processes)]
    return entry


def nodes_in_group(names: Iterable[Any], group: str) -> list[str]:
    """Those that are nodes of this group."""
    texts = [name for name in names if isinstance(name, str) and name != group]
    return [name for name in texts if split_name(name)[0] == group]


def format_event(event: Event) -> str:
    """An event as a line of a log."""
    return " ".join(filter(None, (event.event, *to_ranges(event.names), event.message)))
