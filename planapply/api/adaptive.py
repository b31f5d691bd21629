"""Adaptivity that counts nodes of one elastic group, and not Dask workers of the whole cluster."""

import logging
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from distributed.deploy.adaptive import Adaptive
from distributed.protocol import pickle

from planapply.model.diagnostics import PlanapplyError

if TYPE_CHECKING:
    from planapply.api.cluster import Cluster

logger = logging.getLogger("planapply")


class GroupAdaptive(Adaptive):
    """What `Cluster.adapt` makes; derive from it to decide otherwise.

    `minimum`, `maximum`, `plan`, `requested`, `observed` and what `target` gives are nodes; a node may
    run several Dask workers, which only end together.
    """

    cluster: "Cluster"

    def __init__(
        self,
        cluster: "Cluster",
        *,
        group: str,
        processes: int,
        release_lock: Callable[[], None],
        **kwargs: Any,
    ) -> None:
        self.state = "inactive"  # should the rest of this fail
        self.group, self.processes, self._release_lock = group, processes, release_lock
        super().__init__(cluster, **kwargs)

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
        """How many nodes the group should have; the scheduler says how many Dask workers, in all."""
        target_workers: int = await super().target()
        joined = self.cluster.joined_nodes()
        group_nodes = [name for name in self.plan if name in joined]
        all_workers = sum(map(len, joined.values()))
        if target_workers >= all_workers:
            other_workers = all_workers - sum(len(joined[name]) for name in group_nodes)
            return max(0, math.ceil((target_workers - other_workers) / self.processes))
        # Fewer are needed. Whether that is so of this group is seen by who is idle.
        idle = set(map(str, await self._closable_workers(None)))
        return sum(not joined[name] <= idle for name in group_nodes)

    async def workers_to_close(self, target: int) -> list[str]:
        """Those nodes that the scheduler can do without the easiest."""
        rank = {str(name): i for i, name in enumerate(await self._closable_workers(0))}
        joined = self.cluster.joined_nodes()
        # Where a worker has no place, it must not be closed, and so neither must its node.
        nodes = [name for name in self.observed if joined[name] <= rank.keys()]
        nodes.sort(key=lambda name: max(rank[dask_name] for dask_name in joined[name]))
        return nodes[: max(0, len(self.observed) - target)]

    async def _closable_workers(self, target: int | None) -> Iterable[Any]:
        """Names of Dask workers, the idle first; with a target, all that may be closed."""
        names: Iterable[Any] = await self.scheduler.workers_to_close(
            target=target,
            key=pickle.dumps(self.worker_key) if self.worker_key else None,
            attribute="name",
            **self._workers_to_close_kwargs,
        )
        return names

    async def scale_up(self, n: Any) -> None:
        """More nodes, unless some could not be had a moment ago."""
        if not self.cluster.is_backing_off(self.group):
            self.cluster.scale(n, group=self.group)

    async def scale_down(self, workers: Any) -> None:
        """Retires them, and ends their VMs."""
        await self.cluster.scale_down(workers)

    def stop(self, reason: str = "unknown") -> None:
        """Somebody else may be adaptive then."""
        super().stop(reason=reason)
        release_lock, self._release_lock = self._release_lock, lambda: None
        try:
            release_lock()
        except PlanapplyError as error:  # this is called where nobody could do anything about it
            logger.warning("%s", error)
