"""A Dask cluster that outlives the process: SpecCluster on top of a state."""

import asyncio
import math
import warnings
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypedDict, Unpack

from dask.utils import parse_bytes
from distributed.core import Status
from distributed.deploy.adaptive import Adaptive as DaskAdaptive
from distributed.deploy.cluster import Cluster as DaskCluster
from distributed.utils import NoOpAwaitable
from tornado.ioloop import IOLoop

from planapply import specfile
from planapply.api.adaptive import GroupAdaptive
from planapply.api.context import ClusterContext, nodes_in_group
from planapply.api.state_cluster import StateBackedCluster
from planapply.dask.scheduler import REACHABLE_TIMEOUT
from planapply.dask.speccluster import combine_errors
from planapply.model.names import split_name
from planapply.model.spec import WorkerGroup
from planapply.ops.apply import ApplyOptions, apply
from planapply.ops.plan import PlanOptions
from planapply.ops.workspace import Workspace
from planapply.store import open_store

LOCK_TIMEOUT = 60.0  # seconds that a change waits for somebody else's


class AdoptOptions(TypedDict, total=False):
    """Those of SpecCluster's arguments that mean something for a cluster that runs already."""

    asynchronous: bool
    loop: IOLoop | None
    silence_logs: Any
    scheduler_sync_interval: Any
    shutdown_on_close: bool


class Cluster(StateBackedCluster):
    """A `distributed.SpecCluster`, whose nodes may be VMs that outlive it.

    Its constructor takes SpecCluster's arguments, and what it makes is named and closed as by
    SpecCluster. `from_spec` adopts a cluster that `planapply apply` made: leaving that one leaves it
    running, and what is changed is in its state.
    """

    @classmethod
    def from_spec(
        cls,
        path: str | Path = "planapply.toml",
        *,
        overrides: Sequence[str] = (),
        state: str | None = None,
        timeout: float = REACHABLE_TIMEOUT,
        lock_timeout: float = LOCK_TIMEOUT,
        **options: Unpack[AdoptOptions],
    ) -> Self:
        """The cluster of a spec, as it runs; launches nothing.

        `overrides` are `KEY=VALUE` as in `--set`; `state` is where the state is, if not where the
        spec says. Both times are in seconds: `timeout` is how long the scheduler may take to answer,
        `lock_timeout` how long a change waits for somebody else's. The other options are those of
        SpecCluster; with `asynchronous=True`, await it. Raises PlanapplyError for all that is wrong with the spec, and
        where nothing runs or answers.
        """
        workspace = Workspace.from_spec(str(path), overrides, state)
        return cls.adopt(workspace, timeout, lock_timeout, **options)

    @classmethod
    def from_name(  # type: ignore[override]  # SpecCluster's only says that there is none
        cls,
        name: str,
        *,
        timeout: float = REACHABLE_TIMEOUT,
        lock_timeout: float = LOCK_TIMEOUT,
        **options: Unpack[AdoptOptions],
    ) -> Self:
        """The cluster of a state, named by its path or address (`s3://bucket/genomics.json`).

        Use it where the spec is not at hand: without its bounds nothing can be scaled. The name of a
        spec's file does as well, and is the same as `from_spec`. Raises PlanapplyError.
        """
        location = name if "://" in name else specfile.find_state_location(Path(name))
        if Path(location) != Path(name) and Path(name).exists():
            workspace = Workspace.from_spec(name)
        else:
            workspace = Workspace(open_store(location))
        return cls.adopt(workspace, timeout, lock_timeout, **options)

    @classmethod
    def adopt(
        cls,
        workspace: Workspace,
        timeout: float = REACHABLE_TIMEOUT,
        lock_timeout: float = LOCK_TIMEOUT,
        **options: Unpack[AdoptOptions],
    ) -> Self:
        """As `from_spec`, for a workspace that is open already."""
        if unsupported := options.keys() - AdoptOptions.__annotations__.keys():
            raise TypeError(f"a running cluster takes no {', '.join(sorted(unsupported))}")
        for diagnostic in workspace.diagnostics:
            warnings.warn(f"{diagnostic.summary}. {diagnostic.detail}", stacklevel=3)
        self = cls.__new__(cls)
        # First, since a synchronous constructor starts the cluster.
        self._context = ClusterContext(workspace, timeout, lock_timeout, self._on_event)
        name = workspace.spec.cluster.name if workspace.spec else None
        cls.__init__(self, name=name, **options)
        self._name = cls.__name__  # as it prints; SpecCluster puts the cluster's own name there
        return self

    def destroy(self) -> Awaitable[None] | None:
        """End the cluster with all that was launched for it, as `planapply destroy` does.

        One that was made by the constructor is closed. Raises PlanapplyError naming what is left, and
        where `protect` forbids it: then this object is as it was.
        """
        if self._context is None:
            closed: Awaitable[None] | None = self.close()
            return closed
        if self.asynchronous:
            return self._destroy(self._context)
        self._context.check_destroy()
        self.close()
        # In a thread, for a notebook has a loop running in this one.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(_destroy, self._context.workspace, self._context.lock_timeout).result()
        return None

    async def _destroy(self, context: ClusterContext) -> None:
        await asyncio.to_thread(context.check_destroy)
        await self._close()
        await asyncio.to_thread(_destroy, context.workspace, context.lock_timeout)

    # Changing.

    def scale(
        self,
        n: int = 0,
        memory: str | float | None = None,
        cores: float | None = None,
        group: str | None = None,
    ) -> Any:
        """Let an elastic group have `n` nodes, or so many that they have this much in all.

        `memory` in bytes, or as text such as "100 GiB"; `group` may be left out where there is only
        one. It returns at once; await the cluster, or `wait_for_workers`, for what comes of it.
        Raises ValueError outside `min` and `max`, and for a group with a `count`.
        """
        context = self._context
        if context is None:
            if group is not None:
                raise ValueError("a cluster that was not made from a spec has no groups")
            return super().scale(n, memory, cores)
        if self.status != Status.running:
            raise RuntimeError(f"the cluster can't be scaled: it is {self.status.name}")
        name, _ = context.find_group(group)
        n = max([n, *self._convert_to_nodes(context, name, math.ceil, None, cores, memory)])
        context.check_bounds(name, n)
        if self.asynchronous:
            self._set_target(context, name, n)
            self.loop.add_callback(self._correct_and_log_errors)
            return NoOpAwaitable()
        self.sync(self._scale, context, name, n)
        return None

    scale_up = scale

    async def _scale(self, context: ClusterContext, name: str, n: int) -> None:
        self._set_target(context, name, n)
        self.loop.add_callback(self._correct_and_log_errors)

    async def scale_down(self, workers: Collection[str]) -> None:
        """End these nodes: by their names, or those of their Dask workers, or their addresses.

        A node ends with all its Dask workers. Unknown ones are ignored. Raises ValueError for a node
        of a `count` group, and below `min`.
        """
        context = self._context
        if context is None:
            await super().scale_down(workers)
            return
        known = self.scheduler_info["workers"]
        dask_names = [known[w]["name"] if w in known else w for w in workers]
        names = {self._nodes.get(str(n), n) for n in dask_names} & self.worker_spec.keys()
        for group in {split_name(name)[0] for name in names}:
            context.find_group(group)
            context.check_bounds(group, len(self.nodes_of(group) - names))
        for name in names:
            del self.worker_spec[name]
            group = split_name(name)[0]
            if group in context.targets:
                context.targets[group] -= 1
        context.leaving |= names
        await self

    def adapt(
        self,
        Adaptive: type[DaskAdaptive] | None = None,
        minimum: float | None = None,
        maximum: float | None = None,
        minimum_cores: int | None = None,
        maximum_cores: int | None = None,
        minimum_memory: str | None = None,
        maximum_memory: str | None = None,
        group: str | None = None,
        **kwargs: Any,
    ) -> DaskAdaptive:
        """Let the load decide how many nodes an elastic group has.

        `minimum` and `maximum` count Dask workers, which are converted to nodes; left out, they are
        the group's `min` and `max`. Raises ValueError outside those, and PlanapplyError where another
        process is adaptive.
        """
        context = self._context
        if context is None:
            if group is not None:
                raise ValueError("a cluster that was not made from a spec has no groups")
            return super().adapt(
                Adaptive=Adaptive or DaskAdaptive,
                minimum=0 if minimum is None else minimum,
                maximum=math.inf if maximum is None else maximum,
                minimum_cores=minimum_cores,
                maximum_cores=maximum_cores,
                minimum_memory=minimum_memory,
                maximum_memory=maximum_memory,
                **kwargs,
            )
        if self.status != Status.running:
            raise RuntimeError(f"the cluster can't be adaptive: it is {self.status.name}")
        name, settings = context.find_group(group)
        adaptive_class = Adaptive or GroupAdaptive
        if not issubclass(adaptive_class, GroupAdaptive):
            raise TypeError(
                "derive it from planapply.api.adaptive.GroupAdaptive, which knows nodes"
            )
        minimums = self._convert_to_nodes(
            context, name, math.ceil, minimum, minimum_cores, minimum_memory
        )
        maximums = self._convert_to_nodes(
            context, name, math.floor, maximum, maximum_cores, maximum_memory
        )
        min_nodes = max(minimums, default=settings.min or 0)
        max_nodes = min(maximums, default=settings.max or 0)
        for nodes in (min_nodes, max_nodes):
            context.check_bounds(name, nodes)
        if min_nodes > max_nodes:
            raise ValueError(
                f"at least {min_nodes} and at most {max_nodes} nodes: there is no such number"
            )
        if self._adaptive is not None:
            self._adaptive.stop(reason="adapted-anew")
        context.adaptive_lock.acquire()
        try:
            return DaskCluster.adapt(
                self,
                Adaptive=adaptive_class,
                minimum=min_nodes,
                maximum=max_nodes,
                group=name,
                processes=settings.processes,
                release_lock=context.adaptive_lock.release,
                **kwargs,
            )
        except BaseException:
            context.adaptive_lock.release()
            raise

    def is_backing_off(self, group: str) -> bool:
        """Whether some of its nodes could not be had a moment ago."""
        return self._context is not None and self._context.is_backing_off(group)

    @property
    def _supports_scaling(self) -> bool:  # type: ignore[override]  # it is one there as well
        if self._context is None:
            return bool(super()._supports_scaling)
        return self._context.has_elastic

    def new_worker_spec(self) -> dict[Any, Any]:
        """As of SpecCluster; of an adopted cluster, the next node of its only elastic group."""
        context = self._context
        if context is None:
            spec: dict[Any, Any] = super().new_worker_spec()
            return spec
        group, _ = context.find_group(None)
        [name] = self._next_names(context, group, 1)
        return {name: context.make_entry(name, context.provisional_config(group))}

    def _convert_to_nodes(
        self,
        context: ClusterContext,
        group: str,
        round_nodes: Callable[[float], int],
        workers: float | None,
        cores: float | None,
        memory: str | float | None,
    ) -> list[int]:
        """How many nodes each of these amounts is."""
        _, settings = context.find_group(group)
        amounts = []
        if workers is not None and workers != math.inf:
            amounts.append(workers / settings.processes)
        if cores is not None:
            amounts.append(cores / self._amount_per_node(settings, group, "nthreads"))
        if memory is not None:
            amounts.append(
                parse_bytes(memory) / self._amount_per_node(settings, group, "memory_limit")
            )
        return [round_nodes(amount) for amount in amounts]

    def _amount_per_node(self, settings: WorkerGroup, group: str, option: str) -> float:
        """What a node gives to Dask: as its options say, or else as one that has joined says."""
        value = settings.options.get(option)
        if option == "memory_limit" and isinstance(value, str) and value != "auto":
            value = parse_bytes(value)
        # Of a memory limit, 1 and less is a part of what the machine has.
        if isinstance(value, int | float) and (option == "nthreads" or value > 1):
            return float(value) * settings.processes
        for worker in self.scheduler_info["workers"].values():
            node = self._nodes.get(str(worker["name"]), "")
            if nodes_in_group([node], group) and worker[option]:
                return float(worker[option]) * settings.processes
        raise ValueError(
            f"how much a node of {group!r} has is not known before one has joined: scale(n) to a "
            f"number of nodes first, or set `options.{option}` in [workers.{group}]"
        )


def _destroy(workspace: Workspace, lock_timeout: float) -> None:
    options = ApplyOptions(lock_timeout=lock_timeout)
    report = apply(workspace, lambda plan: True, PlanOptions(destroy=True), options)
    if report.failures:
        raise combine_errors(report.failures)
