"""A cluster of one's own for a job: open what a spec describes, launch it first, destroy it at the end."""

import asyncio
import logging
import warnings
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from planapply.api.arguments import Overrides, check_flags, to_path, to_state, to_texts
from planapply.api.attach_options import check_options
from planapply.api.cluster import Cluster, StateBackedCluster
from planapply.api.destroy import destroy_workspace
from planapply.api.durations import Duration, to_seconds
from planapply.api.lifecycle import apply_workspace
from planapply.api.state_session import LOCK_TIMEOUT
from planapply.dask.scheduler import REACHABLE_TIMEOUT
from planapply.fleet import Stopped, SystemClock
from planapply.model.diagnostics import PlanapplyError
from planapply.model.event import Event
from planapply.model.names import CLUSTER_NAME_RULE, format_names, is_cluster_name
from planapply.model.plan import Action, Plan
from planapply.ops.apply import ApplyOptions
from planapply.ops.workspace import Workspace
from planapply.store import open_store

logger = logging.getLogger("planapply")


def open_cluster(
    path: str | Path = "planapply.toml",
    *,
    launch: bool = False,
    destroy_on_close: bool = False,
    name: str | None = None,
    overrides: Overrides = (),
    state: str | Path | None = None,
    progress: bool | Callable[[Event], None] = False,
    timeout: Duration = REACHABLE_TIMEOUT,
    lock_timeout: Duration = LOCK_TIMEOUT,
    asynchronous: bool = False,
    **options: Any,
) -> "StateBackedCluster | PendingCluster":
    """Open the cluster of a spec, as `Cluster.from_spec` does; with `launch=True`, create it first.

    Use it for one cluster per job, and for tools that need a function in a module, such as JupyterLab's
    Dask extension and Prefect. `launch=True` creates the nodes that are missing; if the spec would change
    or remove a node, it raises. `destroy_on_close=True` destroys the cluster when its block ends, also
    after an error; it needs `launch=True`, and a state without nodes. `name` gives the job a cluster and a
    state of its own, beside the spec's state, so that jobs of one spec can run side by side. If the process
    is killed, `ttl` or `planapply destroy` destroys the cluster. `progress` is that of `planapply.apply`; the
    other parameters are those of `Cluster.from_spec`. With `asynchronous=True`, await the result, or use it
    in `async with`. Raise PlanapplyError if something is wrong; nothing that was launched is lost.
    """
    check_flags(launch=launch, destroy_on_close=destroy_on_close, asynchronous=asynchronous)
    check_options(options)
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name must be the name of a cluster, not {name!r}")
    if name is not None and not is_cluster_name(name):
        raise ValueError(f"name must be the name of a cluster, not {name!r}: {CLUSTER_NAME_RULE}")
    if destroy_on_close and not launch:
        raise TypeError("cannot use destroy_on_close=True without launch=True")
    job = _Job(
        path=to_path("path", path),
        launch=launch,
        destroy_on_close=destroy_on_close,
        name=name,
        overrides=to_texts(overrides),
        state=to_state(state),
        progress=progress,
        timeout=to_seconds(timeout, "timeout"),
        lock_timeout=to_seconds(lock_timeout, "lock_timeout"),
        options=options,
    )
    if asynchronous:
        return PendingCluster(job)
    cluster: StateBackedCluster = job.attach(job.prepare())
    return cluster


class PendingCluster:
    """The result of `open_cluster(asynchronous=True)`: await it, or use it in `async with`."""

    def __init__(self, job: "_Job") -> None:
        self._job = job
        self._cluster: StateBackedCluster | None = None

    def __await__(self) -> Generator[Any, Any, StateBackedCluster]:
        return self._open().__await__()

    async def __aenter__(self) -> StateBackedCluster:
        self._cluster = await self._open()
        return self._cluster

    async def __aexit__(self, *_: Any) -> None:
        if self._cluster is not None:
            await self._cluster.__aexit__(*_)

    def __enter__(self) -> NoReturn:
        raise TypeError("cannot use `with` with asynchronous=True: use `async with`")

    def __exit__(self, *_: object) -> None:
        """Exist, so that `with` calls `__enter__`."""

    async def _open(self) -> StateBackedCluster:
        # A cancellation does not stop the thread, which would go on launching.
        preparing = asyncio.ensure_future(asyncio.to_thread(self._job.prepare))
        try:
            workspace = await asyncio.shield(preparing)
        except asyncio.CancelledError:
            self._job.stop()
            await asyncio.wait([preparing])
            if (failure := preparing.exception()) is None:  # it had finished before
                await asyncio.to_thread(self._job.destroy_launched, preparing.result())
            elif isinstance(failure, PlanapplyError):
                logger.error("%s", failure)
            raise
        cluster: StateBackedCluster = await self._job.attach(workspace, asynchronous=True)
        return cluster


@dataclass
class _Job:
    """The arguments of `open_cluster`."""

    path: str
    launch: bool
    destroy_on_close: bool
    name: str | None
    overrides: tuple[str, ...]
    state: str | None
    progress: bool | Callable[[Event], None]
    timeout: float
    lock_timeout: float
    options: dict[str, Any]
    has_launched: bool = False
    """Whether this call may have launched VMs: never destroy those of another process."""
    is_stopped: bool = False
    workspace: Workspace | None = None
    """The cluster's workspace, once it is known."""

    def prepare(self) -> Workspace:
        """Launch what is missing, if requested; return the cluster's workspace."""
        workspace = self.workspace = self._open_workspace()
        if self.launch:
            if self.is_stopped:  # read after `workspace` is set: see `stop`
                raise Stopped
            self._launch(workspace)
        return workspace

    def stop(self) -> None:
        """Let `prepare`, which runs in another thread, send no further requests and end."""
        self.is_stopped = True
        if self.workspace is not None:
            self.workspace.clock.stop()
            self.workspace.store.set_deadline()

    def attach(self, workspace: Workspace, **extra: Any) -> Any:
        """Return the cluster; if it cannot be opened, destroy what was launched for it."""
        try:
            cluster = Cluster.adopt(
                workspace, self.timeout, self.lock_timeout, **self.options, **extra
            )
        except BaseException:
            self.destroy_launched(workspace)
            raise
        cluster.destroys_on_close = self.destroy_on_close
        return cluster

    def _open_workspace(self) -> Workspace:
        workspace = Workspace.from_spec(
            self.path, self.overrides, self.state, import_classes=self.launch
        )
        if self.name is None:
            return workspace
        assert workspace.spec is not None
        if self.state is None and self.name == workspace.spec.cluster.name:
            raise PlanapplyError(
                f"cannot use name={self.name!r}: it is the name of the spec's own cluster",
                "Pass another name, or omit it to open that cluster.",
            )
        state = self.state or _beside(workspace.store.location, f"{self.name}.state.json")
        overrides = (*self.overrides, *to_texts({"cluster.name": self.name}))
        return Workspace.from_spec(self.path, overrides, state, import_classes=self.launch)

    def _launch(self, workspace: Workspace) -> None:
        assert workspace.spec is not None
        location = workspace.store.location
        if self.destroy_on_close:
            self._check_new(workspace)
            if workspace.spec.cluster.ttl is None:
                warnings.warn(
                    f"cluster {workspace.spec.cluster.name!r} has no `ttl`: if this process is killed, "
                    f"its VMs run until `planapply destroy --state {location}`",
                    stacklevel=4,
                )
        before = workspace.store.read()
        serial = 0 if before is None else before.serial

        def check(plan: Plan) -> None:
            other = [
                change.name
                for change in plan.changes
                if change.kind != "resource" and change.action is not Action.CREATE
            ]
            if other:
                raise PlanapplyError(
                    f"cannot launch cluster {plan.cluster!r}: the plan also changes or removes "
                    f"{format_names(other)}",
                    "Review it with `planapply.plan`, and carry it out with `planapply.apply`.",
                )
            if self.destroy_on_close and plan.serial != serial:
                raise _in_use(location)
            self.has_launched = True

        try:
            apply_workspace(
                workspace, ApplyOptions(lock_timeout=self.lock_timeout), check, self.progress
            )
        except BaseException:
            self.destroy_launched(workspace)
            raise

    def _check_new(self, workspace: Workspace) -> None:
        assert workspace.spec is not None
        if workspace.spec.cluster.protect:
            raise PlanapplyError(
                "cannot use destroy_on_close=True: the spec sets `protect`",
                "Remove one of the two.",
            )
        state = workspace.store.read()
        if state is not None and not state.is_empty:
            raise _in_use(workspace.store.location)

    def destroy_launched(self, workspace: Workspace) -> None:
        """Destroy what this call has launched, if the cluster is destroyed on close."""
        if self.destroy_on_close and self.has_launched:
            # With a clock and a store of their own: an interrupt has stopped those of the launch.
            store = open_store(workspace.store.location, workspace.store.aws)
            fresh = replace(workspace, clock=SystemClock(), store=store)
            destroy_workspace(fresh, self.lock_timeout)


def _in_use(location: str) -> PlanapplyError:
    return PlanapplyError(
        f"cannot use destroy_on_close=True: the state {location} has nodes already",
        "Pass `name=` for a cluster of this job's own, or destroy the other cluster first.",
    )


def _beside(location: str, file: str) -> str:
    """Return the location of a file in the same folder, or under the same prefix of a bucket."""
    if "://" in location:
        scheme, _, rest = location.partition("://")
        return f"{scheme}://{PurePosixPath(rest).with_name(file)}"
    return str(Path(location).with_name(file))
