"""The nodes of a cluster as its scheduler sees them: which have joined, and which must leave."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from planapply.diff import RefreshResult
from planapply.diff.resize import loss_reason
from planapply.model.endpoint import current_endpoint
from planapply.model.names import SCHEDULER
from planapply.model.state import NodeRecord
from planapply.ops.workspace import Workspace


@dataclass(frozen=True)
class NodeReport:
    """The scheduler's report about nodes; without its answer, no node is judged."""

    joined: tuple[str, ...] = ()
    """Launched nodes that have joined."""
    late: frozenset[str] = frozenset()
    """Launched nodes that had enough time and have not joined."""
    notices: frozenset[str] = frozenset()
    """Nodes whose spot VM the cloud is about to reclaim."""
    dashboard: int | None = None
    """Port of its dashboard."""
    is_silent: bool = False
    """Whether the scheduler was asked and does not answer."""


@dataclass
class NodeObserver:
    """Asks the scheduler about nodes, only if it can know something new."""

    workspace: Workspace
    _deadlines: dict[str, float] = field(default_factory=dict)
    """VM -> when it must have joined, on a clock that never jumps."""

    def observe(
        self, refreshed: RefreshResult, join_timeout: float, consistency_delay: float
    ) -> NodeReport:
        """Return the scheduler's report.

        `join_timeout` is in seconds, as `consistency_delay`, for which the cloud may show VMs that have ended.
        """
        state, clock = refreshed.state, self.workspace.clock
        running = {
            name: record
            for name, record in state.nodes.items()
            if record.status != "terminating" and loss_reason(name, refreshed) is None
        }
        launched = {name: record for name, record in running.items() if record.status == "launched"}
        spot = {name: record.vm for name, record in running.items() if record.spot}
        delays = dict.fromkeys(refreshed.adopted, consistency_delay)
        self._update_deadlines(launched, join_timeout, delays)
        endpoint = current_endpoint(state)
        if endpoint is None or not (launched or spot):
            return NodeReport()
        from planapply.dask.observe import observe_scheduler  # imports asyncio

        found = observe_scheduler(endpoint, state.tls, spot, clock.time(), workers=bool(launched))
        if found is None:
            return NodeReport(is_silent=True)
        joined, late = [], []
        for name, record in launched.items():
            assert found.info is not None
            config = state.configs.get(record.config)
            if name == SCHEDULER or found.info.has_joined(name, config.processes if config else 1):
                joined.append(name)
            elif clock.monotonic() >= self._deadlines[record.vm]:
                late.append(name)
        dashboard = found.info.dashboard if found.info else None
        return NodeReport(tuple(joined), frozenset(late), frozenset(found.notices), dashboard)

    def _update_deadlines(
        self,
        launched: Mapping[str, NodeRecord],
        join_timeout: float,
        delays: Mapping[str, float],
    ) -> None:
        clock, deadlines = self.workspace.clock, {}
        for name, record in launched.items():
            # The wall clock is read once for each VM, so that a later jump makes no node late.
            age = min(max(0.0, clock.time() - (record.launched_at or 0.0)), join_timeout)
            deadline = clock.monotonic() + max(join_timeout - age, delays.get(name, 0.0))
            deadlines[record.vm] = self._deadlines.get(record.vm, deadline)
        self._deadlines = deadlines
