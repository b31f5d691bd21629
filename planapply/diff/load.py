"""The size of an elastic group that follows the load."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from planapply.model.names import sort_key, worker_names


@dataclass(frozen=True)
class Load:
    """The load of a cluster, as its scheduler reports it."""

    target: int
    """The number of Dask workers that the tasks require; without any worker, the number of threads."""
    workers: frozenset[str]
    """The Dask workers of all groups."""
    closable: frozenset[str]
    """The workers that have no task, and whose results have room on the others."""


@dataclass(frozen=True)
class ElasticGroup:
    """The group that follows the load, as it is now."""

    nodes: frozenset[str]
    """Its nodes, also those that have not joined yet."""
    min: int
    max: int
    processes: int = 1
    """The number of Dask workers per node."""
    threads: int | None = None
    """The number of threads per node, if it is known without a worker."""
    idle: float = 300.0
    """Seconds that a node must be idle before it is removed."""


@dataclass(frozen=True)
class Resize:
    """The change of an elastic group; it either adds or removes nodes, or does nothing."""

    add: int = 0
    """The number of nodes to launch."""
    remove: tuple[str, ...] = ()
    """Nodes to retire and terminate."""

    def __bool__(self) -> bool:
        """Return whether anything changes."""
        return bool(self.add or self.remove)


def follow_load(
    group: ElasticGroup, load: Load, idle_since: Mapping[str, float], now: float
) -> tuple[dict[str, float], Resize]:
    """Return since when each idle node of the group has been idle, and the change that the load requires.

    `idle_since` is the first result of the previous call; `now` is a monotonic time in seconds. The group
    grows at once. It shrinks by nodes that each call has found idle for `group.idle` seconds.
    """
    joined = {
        node: workers
        for node in group.nodes
        if (workers := load.workers.intersection(worker_names(node, group.processes)))
    }
    idle = {
        node: idle_since.get(node, now)
        for node, workers in joined.items()
        if workers <= load.closable
    }
    if load.target >= len(load.workers):
        others = len(load.workers) - sum(map(len, joined.values()))
        per_node = group.processes if load.workers else group.threads or group.processes
        required = math.ceil((load.target - others) / per_node)
        size = max(group.min, min(group.max, required))
        return idle, Resize(add=max(0, size - len(group.nodes)))
    # Which groups have workers to spare shows in which workers are idle.
    missing = group.min - len(group.nodes)
    if missing > 0:
        return idle, Resize(add=missing)
    leaving = [node for node, since in idle.items() if now - since >= group.idle]
    leaving.sort(key=sort_key, reverse=True)
    leaving.sort(key=lambda node: idle[node])  # the longest idle nodes first
    # A node that has not joined may never do so.
    spare = max(0, len(joined) - group.min)
    return idle, Resize(remove=tuple(leaving[:spare]))
