"""Dask clusters in Python: as SpecCluster, or backed by the state of a cluster that was applied."""

import asyncio
import math
import warnings
from collections.abc import Awaitable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from os import PathLike
from pathlib import Path
from typing import Any, Unpack

from distributed.core import Status
from distributed.deploy.adaptive import Adaptive as DaskAdaptive
from distributed.deploy.cluster import Cluster as DaskCluster
from distributed.utils import NoOpAwaitable

from planapply import specfile
from planapply.api.adaptive import GroupAdaptive
from planapply.api.arguments import Overrides, to_path, to_state, to_texts
from planapply.api.attach_options import AttachOptions, check_options
from planapply.api.closing import log_running_cost
from planapply.api.connect import IF_MISSING
from planapply.api.destroy import destroy_workspace
from planapply.api.durations import Duration
from planapply.api.group_targets import nodes_in_group
from planapply.api.notebook_cluster import NotebookCluster
from planapply.api.sizing import Sizing, is_real
from planapply.api.state_session import LOCK_TIMEOUT
from planapply.dask.scheduler import REACHABLE_TIMEOUT
from planapply.dask.speccluster import RobustSpecCluster
from planapply.model.names import split_name
from planapply.model.paths import expand_home
from planapply.model.spec import WorkerGroup
from planapply.ops.workspace import Workspace
from planapply.store import open_store


class Cluster(RobustSpecCluster):
    """A `distributed.SpecCluster` that can also be opened on VMs that outlive it.

    The constructor takes the arguments of SpecCluster, and its clusters are named, scaled, and closed
    as by SpecCluster. `from_spec` opens a cluster that `planapply apply` created: closing that one
    leaves it running, and its changes are recorded in its state.
    """

    @wraps(RobustSpecCluster.__init__)  # type: ignore[misc]  # for its signature
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        workers = args[0] if args else kwargs.get("workers")
        if isinstance(workers, str | PathLike):
            raise TypeError(
                f"cannot create a cluster from {str(workers)!r}: Cluster() takes the arguments of SpecCluster. "
                "Use planapply.Cluster.from_spec to open a running cluster, or planapply.open_cluster to "
                "launch one."
            )
        super().__init__(*args, **kwargs)

    @classmethod
    def from_spec(
        cls,
        path: str | Path = "planapply.toml",
        *,
        overrides: Overrides = (),
        state: str | Path | None = None,
        timeout: Duration = REACHABLE_TIMEOUT,
        lock_timeout: Duration = LOCK_TIMEOUT,
        **options: Unpack[AttachOptions],
    ) -> "StateBackedCluster":
        """Open the running cluster of a spec; launch nothing.

        `overrides` are those of `planapply.plan`. `state` is the path or URL of the state; the default is
        that of the spec. The scheduler must respond within `timeout`, and a change waits up to `lock_timeout`
        for the state's lock: seconds, or durations such as "10s". The other options are those of SpecCluster;
        with `asynchronous=True`, await the result. Raise PlanapplyError, with all problems of the spec, or if
        no scheduler exists or responds.
        """
        workspace = Workspace.from_spec(to_path("path", path), to_texts(overrides), to_state(state))
        return cls.adopt(workspace, timeout, lock_timeout, **options)

    @classmethod
    def from_name(  # type: ignore[override]  # that of SpecCluster only raises
        cls,
        name: str | Path,
        *,
        timeout: Duration = REACHABLE_TIMEOUT,
        lock_timeout: Duration = LOCK_TIMEOUT,
        **options: Unpack[AttachOptions],
    ) -> "StateBackedCluster":
        """Open the running cluster of a state, given its path or URL (`s3://bucket/genomics.json`).

        Its groups and their bounds are those of the spec that was applied last, which the state records;
        a cluster whose last apply was by a planapply that did not record it cannot be scaled. The name
        of a spec file is accepted too, and is the same as `from_spec`. Raise PlanapplyError as
        `from_spec` does.
        """
        name = to_path("name", name)
        name = name if "://" in name else expand_home(name)
        location = (
            name if "://" in name else specfile.find_state_location(Path(name), (), IF_MISSING)
        )
        if Path(location) != Path(name) and Path(name).exists():
            workspace = Workspace.from_spec(name)
        else:
            workspace = Workspace(open_store(location))
        return cls.adopt(workspace, timeout, lock_timeout, **options)

    @classmethod
    def adopt(
        cls,
        workspace: Workspace,
        timeout: Duration = REACHABLE_TIMEOUT,
        lock_timeout: Duration = LOCK_TIMEOUT,
        **options: Unpack[AttachOptions],
    ) -> "StateBackedCluster":
        """Open the running cluster of a workspace (see `from_spec`)."""
        if cls is Cluster:
            cls = StateBackedCluster
        if not issubclass(cls, StateBackedCluster):
            raise TypeError(
                f"cannot open a running cluster as {cls.__name__}: derive {cls.__name__} from "
                "planapply.api.cluster.StateBackedCluster"
            )
        check_options(options)
        for diagnostic in workspace.diagnostics:
            warnings.warn(f"{diagnostic.summary}. {diagnostic.detail}", stacklevel=3)
        return cls(workspace, timeout, lock_timeout, **options)

    def destroy(self) -> Awaitable[None] | None:
        """Destroy the cluster: close it, or for one that was opened, do as `planapply destroy` does.

        Raise PlanapplyError with what could not be removed, or if `protect` forbids destroying the
        cluster; in the second case, this object stays usable.
        """
        closed: Awaitable[None] | None = self.close()
        return closed

    def scale(
        self,
        n: int = 0,
        memory: str | float | None = None,
        cores: float | None = None,
        group: str | None = None,
    ) -> Any:
        """Scale to `n` workers as SpecCluster does, or an elastic group to `n` nodes.

        The second is for a cluster that was opened. `memory` (bytes, or a text such as "100 GiB") and
        `cores` are amounts that the nodes must have in total. `group` is required if several groups
        are elastic. Return at once; await the cluster to wait until the change is done. Raise
        TypeError or ValueError if `n` is not a whole number, and ValueError outside the group's `min`
        and `max`, and for a group with a `count`.
        """
        _check_no_group(group)
        _check_number("n", n)
        return super().scale(n, memory, cores)

    def scale_up(self, *args: Any, **kwargs: Any) -> Any:
        """Call `scale`: the name that Adaptive uses."""
        return self.scale(*args, **kwargs)

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
        """Let the load decide the number of Dask workers, as SpecCluster does, or of an elastic group.

        The second is for a cluster that was opened. `minimum` and `maximum` count Dask workers in
        both cases, and are converted to nodes; the defaults are the group's `min` and `max`, and bounds
        outside these are clamped, with a warning. Raise ValueError if no number of nodes is within the
        bounds, or if this object adapts another group already, and PlanapplyError if another process is
        adapting this cluster.
        """
        _check_no_group(group)
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


def _check_number(argument: str, value: object) -> None:
    if not is_real(value):
        raise TypeError(f"cannot scale: {argument} must be a number of workers, not {value!r}")


def _check_no_group(group: str | None) -> None:
    if group is not None:
        raise ValueError(
            f"cannot select group {group!r}: a cluster that was not opened from a spec has no groups"
        )


class StateBackedCluster(NotebookCluster, Cluster):
    """The Cluster that `Cluster.from_spec` and `Cluster.from_name` open."""

    destroys_on_close = False
    """Whether closing this object destroys the cluster; see `planapply.open_cluster`."""
    _is_being_destroyed = False

    def __init__(
        self,
        workspace: Workspace,
        timeout: Duration = REACHABLE_TIMEOUT,
        lock_timeout: Duration = LOCK_TIMEOUT,
        **options: Unpack[AttachOptions],
    ) -> None:
        super().__init__(workspace, timeout, lock_timeout, **options)
        cls = type(self)
        self._name = "Cluster" if cls is StateBackedCluster else cls.__name__

    async def _close(self) -> None:
        was_open = self.status == Status.running
        await super()._close()
        context = self._context
        if self.destroys_on_close:
            self.destroys_on_close = False
            await asyncio.to_thread(destroy_workspace, context.workspace, context.lock_timeout)
        elif was_open and not self._is_being_destroyed:
            await log_running_cost(context)

    def destroy(self) -> Awaitable[None] | None:
        context = self._context
        self.destroys_on_close = False
        if self.asynchronous:
            return self._destroy()
        context.check_destroy()
        self._is_being_destroyed = True
        self.close()
        # In a thread, since a notebook has a running event loop in this one.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(destroy_workspace, context.workspace, context.lock_timeout).result()
        return None

    async def _destroy(self) -> None:
        context = self._context
        await asyncio.to_thread(context.check_destroy)
        self._is_being_destroyed = True
        await self._close()
        await asyncio.to_thread(destroy_workspace, context.workspace, context.lock_timeout)

    def scale(
        self,
        n: int = 0,
        memory: str | float | None = None,
        cores: float | None = None,
        group: str | None = None,
    ) -> Any:
        self._check_running("scale")
        name, settings = self._context.find_group(group)
        sizing = self._sizing("scale", name, settings)
        amounts = sizing.to_nodes(cores=cores, memory=memory)
        n = max([sizing.check_nodes(n), *map(math.ceil, amounts)])
        self._context.check_bounds(name, n)
        if self.asynchronous:
            self._request_size(name, n)
            self.loop.add_callback(self._correct_and_log_errors)
            return NoOpAwaitable()
        self.sync(self._scale, name, n)
        return None

    async def _scale(self, name: str, n: int) -> None:
        self._request_size(name, n)
        self.loop.add_callback(self._correct_and_log_errors)

    def scale_down(self, workers: Collection[str]) -> Any:
        """Retire and terminate nodes, given by their names, or the names or addresses of their workers.

        A node terminates with all its Dask workers. Names of nodes that have left are ignored. Await
        the result if the cluster is asynchronous. Raise ValueError for the scheduler, for a node of a group
        with a `count`, and below the group's `min`.
        """
        if self.asynchronous:
            return self._scale_down(workers)
        self.sync(self._scale_down, workers)
        return NoOpAwaitable()  # a notebook may await it

    async def _scale_down(self, workers: Collection[str]) -> None:
        context = self._context
        names = self._find_leaving(workers)
        groups = {group: nodes_in_group(names, group) for group, _ in map(split_name, names)}
        for group in groups:
            context.find_group(group)
            context.check_bounds(group, len(self.nodes_of(group) - names))
        for group, leaving in groups.items():
            context.targets.remove(group, self._view(group), leaving)
        for name in names:
            del self.worker_spec[name]
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
        self._check_running("adapt")
        context, adaptive_class = self._context, Adaptive or GroupAdaptive
        if not issubclass(adaptive_class, GroupAdaptive):
            raise TypeError(
                f"cannot adapt with {adaptive_class.__name__}: derive it from "
                "planapply.GroupAdaptive, which counts nodes"
            )
        name, settings = context.find_group(group, "adapt")
        self._check_adapts_no_other(name)
        sizing = self._sizing("adapt", name, settings)
        requested = sizing.bounds(
            sizing.to_nodes("minimum", workers=minimum, cores=minimum_cores, memory=minimum_memory),
            sizing.to_nodes(
                "maximum",
                workers=None if maximum == math.inf else maximum,
                cores=maximum_cores,
                memory=maximum_memory,
            ),
        )
        min_nodes, max_nodes = context.clamp(name, requested)
        if (min_nodes, max_nodes) != requested:
            warnings.warn(
                f"adapting {name!r} between {min_nodes} and {max_nodes} nodes, not between "
                f"{requested[0]} and {requested[1]}: the spec sets {context.format_bounds(name)}",
                stacklevel=2,
            )
        if self._adaptive is not None:
            self._adaptive.stop(reason="adapted-again")
        context.adaptive_lock.acquire()
        self._adaptive = None  # so that the previous one cannot release this lock
        try:
            return DaskCluster.adapt(
                self,
                Adaptive=adaptive_class,
                minimum=min_nodes,
                maximum=max_nodes,
                group=name,
                processes=settings.processes,
                **kwargs,
            )
        except BaseException:
            context.adaptive_lock.release()
            raise

    def release_adaptive_lock(self, holder: object) -> None:
        """Let another process adapt this cluster, unless another object than `holder` is doing so."""
        if holder is self._adaptive:
            self._context.adaptive_lock.release()

    def is_backing_off(self, group: str) -> bool:
        """Return whether a launch of this group failed a moment ago."""
        return self._context.is_backing_off(group)

    @property
    def _supports_scaling(self) -> bool:  # type: ignore[override]  # a property there as well
        return self._context.has_elastic

    def new_worker_spec(self) -> dict[Any, Any]:
        """Return the name and the entry of the next node of the only elastic group."""
        group, _ = self._context.find_group(None)
        [name] = self._next_names(group, 1)
        return {name: self._context.make_entry(name, self._context.provisional_config(group))}

    def _check_running(self, verb: str) -> None:
        if self.status != Status.running:
            raise RuntimeError(f"cannot {verb} the cluster: it is {self.status.name}")

    def _check_adapts_no_other(self, group: str) -> None:
        adaptive = self._adaptive
        if isinstance(adaptive, GroupAdaptive) and adaptive.group != group and adaptive.is_active:
            raise ValueError(
                f"cannot adapt {group!r}: this Cluster object adapts {adaptive.group!r} already, and adapts "
                "one group at a time. Call stop() on the object that adapt() returned, then adapt again."
            )

    def _sizing(self, verb: str, group: str, settings: WorkerGroup) -> Sizing:
        def find_joined(option: str) -> float | None:
            for worker in self.scheduler_info["workers"].values():
                node = self._nodes.get(str(worker["name"]), "")
                if nodes_in_group([node], group) and worker[option]:
                    return float(worker[option])
            return None

        return Sizing(verb, group, settings, find_joined)
