"""Adaptivity that counts the nodes of one elastic group, not the Dask workers of the whole cluster."""

import logging
import math
from collections.abc import Collection, Iterable
from typing import Any, Protocol

from distributed.deploy.adaptive import Adaptive
from distributed.protocol import pickle

from planapply.model.diagnostics import PlanapplyError

logger = logging.getLogger("planapply")


class AdaptableCluster(Protocol):
    """The part of a state-backed cluster that GroupAdaptive uses."""

    @property
    def workers(self) -> dict[Any, Any]: ...
    def nodes_of(self, group: str) -> set[str]: ...
    def joined_nodes(self) -> dict[str, set[str]]: ...
    def is_backing_off(self, group: str) -> bool: ...
    def scale(self, n: int, *, group: str) -> Any: ...
    async def scale_down(self, workers: Collection[str]) -> None: ...
    def release_adaptive_lock(self, holder: object) -> None: ...


class GroupAdaptive(Adaptive):
    """The Adaptive of one elastic group, created by `Cluster.adapt`.

    Derive from it to decide differently, and pass the class to `adapt(Adaptive=…)`. `minimum`,
    `maximum`, `plan`, `requested`, `observed`, and the result of `target` are nodes. A node may run
    several Dask workers, which only stop together. A constructor of your own must pass its keyword
    arguments on.
    """

    cluster: AdaptableCluster  # type: ignore[assignment]  # Dask's Cluster has no groups

    def __init__(
        self, cluster: AdaptableCluster, *, group: str, processes: int, **kwargs: Any
    ) -> None:
        # First, for `__del__`, should the rest of the constructor fail.
        self.cluster, self.state = cluster, "inactive"
        self.group, self.processes = group, processes
        super().__init__(cluster, **kwargs)  # type: ignore[arg-type]

    @property
    def is_active(self) -> bool:
        """Whether this object changes its group from time to time, and was not stopped."""
        return self.state in ("starting", "running")

    @property
    def plan(self) -> set[Any]:
        return self.cluster.nodes_of(self.group)

    @property
    def requested(self) -> set[Any]:
        return {name for name in self.plan if name in self.cluster.workers}

    @property
    def observed(self) -> set[Any]:
        joined = self.cluster.joined_nodes()
        return {name for name in self.plan if name in joined}

    async def target(self) -> int:
        """Return the number of nodes that the load requires of the group.

        The scheduler only says how many Dask workers the whole cluster requires.
        """
        target_workers: int = await super().target()
        joined = self.cluster.joined_nodes()
        group_nodes = [name for name in self.plan if name in joined]
        all_workers = sum(map(len, joined.values()))
        if target_workers >= all_workers:
            other_workers = all_workers - sum(len(joined[name]) for name in group_nodes)
            return max(0, math.ceil((target_workers - other_workers) / self.processes))
        # Fewer workers are required. Which groups have them shows in which workers are idle.
        idle = set(map(str, await self._closable_workers(None)))
        return sum(not joined[name] <= idle for name in group_nodes)

    async def workers_to_close(self, target: int) -> list[str]:
        """Return the nodes that the scheduler can most easily do without."""
        rank = {str(name): i for i, name in enumerate(await self._closable_workers(0))}
        joined = self.cluster.joined_nodes()
        # A worker without a rank must not be closed, and so its node must not be terminated.
        nodes = [name for name in self.observed if joined[name] <= rank.keys()]
        nodes.sort(key=lambda name: max(rank[dask_name] for dask_name in joined[name]))
        return nodes[: max(0, len(self.observed) - target)]

    async def _closable_workers(self, target: int | None) -> Iterable[Any]:
        """Return the names of Dask workers to close, idle ones first; None: all that may be closed."""
        names: Iterable[Any] = await self.scheduler.workers_to_close(
            target=target,
            key=pickle.dumps(self.worker_key) if self.worker_key else None,
            attribute="name",
            **self._workers_to_close_kwargs,
        )
        return names

    async def scale_up(self, n: Any) -> None:
        """Launch nodes until the group has `n`, unless a launch failed a moment ago."""
        if not self.cluster.is_backing_off(self.group):
            self.cluster.scale(n, group=self.group)

    async def scale_down(self, workers: Any) -> None:
        """Retire the Dask workers of these nodes, and terminate their VMs."""
        await self.cluster.scale_down(workers)

    def stop(self, reason: str = "unknown") -> None:
        """Stop adapting, and let another process adapt this cluster."""
        super().stop(reason=reason)
        try:
            self.cluster.release_adaptive_lock(self)
        except PlanapplyError as error:  # some callers, such as `__del__`, cannot handle it
            logger.warning("%s", error)
