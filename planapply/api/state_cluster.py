"""A SpecCluster attached to a running cluster, whose nodes are in a state that other processes change too."""

import asyncio
import logging
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from distributed.core import Status
from distributed.deploy.cluster import Cluster as DaskCluster
from tornado.ioloop import IOLoop

from planapply.api.context import ClusterContext, format_event
from planapply.api.durations import Duration, to_seconds
from planapply.api.group_targets import GroupView, nodes_in_group
from planapply.api.state_session import LOCK_TIMEOUT
from planapply.api.summary import records_of
from planapply.dask.handles import VMProcess, VMScheduler
from planapply.dask.scheduler import REACHABLE_TIMEOUT, build_security, wait_until_reachable
from planapply.dask.speccluster import RobustSpecCluster, combine_errors
from planapply.model.diagnostics import PlanapplyError
from planapply.model.endpoint import build_endpoint
from planapply.model.event import Event
from planapply.model.names import SCHEDULER, split_name
from planapply.model.node import NodeConfig
from planapply.model.state import NodeRecord, State
from planapply.ops.scale import LockedCluster, reserve_names
from planapply.ops.workspace import Workspace

logger = logging.getLogger("planapply")


class AttachedSpecCluster(RobustSpecCluster):
    """A SpecCluster that attaches to what runs, changes it under the state's lock, and leaves it running."""

    def __init__(
        self,
        workspace: Workspace,
        timeout: Duration = REACHABLE_TIMEOUT,
        lock_timeout: Duration = LOCK_TIMEOUT,
        *,
        asynchronous: bool = False,
        loop: IOLoop | None = None,
        silence_logs: Any = False,
        shutdown_on_close: bool = True,
        scheduler_sync_interval: Any = 1,
    ) -> None:
        # First, since a synchronous constructor starts the cluster.
        self._context = ClusterContext(
            workspace,
            to_seconds(timeout, "timeout"),
            to_seconds(lock_timeout, "lock_timeout"),
            self._on_event,
        )
        super().__init__(
            asynchronous=asynchronous,
            loop=loop,
            silence_logs=silence_logs,
            name=workspace.spec.cluster.name if workspace.spec else None,
            shutdown_on_close=shutdown_on_close,
            scheduler_sync_interval=scheduler_sync_interval,
        )

    # Attaching.

    async def _start(self) -> None:
        if self.status == Status.created:
            self.status = Status.starting  # other tasks that await the cluster wait
            try:
                await self._attach()
            except BaseException:
                self.status = Status.failed
                await self._close()
                raise
            self.status = Status.created
        name = self.name
        await super()._start()
        self.name = name  # the scheduler may have another one

    async def _attach(self) -> None:
        context = self._context
        refreshed = await asyncio.to_thread(context.refresh)
        state, record = refreshed.state, refreshed.state.scheduler
        if record is None or SCHEDULER in refreshed.gone:
            raise PlanapplyError(
                f"cannot attach to cluster {state.cluster!r}: its scheduler does not exist",
                "Run `planapply apply` to create it.",
            )
        config = state.configs[record.config]
        scheduler_endpoint = build_endpoint(record, config)
        address = await wait_until_reachable(
            state.cluster, scheduler_endpoint, state.tls, context.timeout
        )
        self.security = build_security(state.tls)
        self.scheduler = await VMScheduler(config=config, queue=context.queue, record=record)
        self.scheduler.external_address = address
        self.name = state.cluster
        self._merge_state(state, refreshed.gone)

    def _merge_state(self, state: State, gone: Collection[str]) -> None:
        """Take over what other processes have launched and terminated.

        `gone` are nodes whose VMs do not exist in the cloud, if the cloud was asked.
        """
        context = self._context
        context.gone_vms.update(state.nodes[name].vm for name in gone if name in state.nodes)
        active = {
            name: record
            for name, record in state.nodes.items()
            if name != SCHEDULER
            and record.status != "terminating"
            and record.vm not in context.gone_vms
        }
        for name, handle in list(self.workers.items()):
            if not isinstance(handle, VMProcess) or handle.record is None:
                continue
            record = state.nodes.get(name)
            is_removed_here = name not in self.worker_spec and record is not None
            if is_removed_here and handle.record.vm not in context.gone_vms:
                continue
            if name not in active or active[name].vm != handle.record.vm:
                handle.release()
                self._drop(name)
                self.worker_spec.pop(name, None)
        for name, record in active.items():
            if name not in self.workers:
                self.worker_spec[name] = context.make_entry(
                    name, _find_config(state, name, record), record
                )
        context.targets.next_index = dict(state.next_index)

    # Leaving.

    async def _close(self) -> None:
        while self.status == Status.closing:
            await asyncio.sleep(0.1)
        if self.status == Status.closed:
            return
        self.status = Status.closing
        try:
            if self._adaptive is not None:
                self._adaptive.stop(reason="cluster-closed")
            await self._stop_polling()
            if self.scheduler_comm is not None:
                await self._finish_changes()
            self._leave_context()
            # Not that of SpecCluster, which closes all nodes.
            await DaskCluster._close(self)
        except BaseException:  # such as its timeout
            self.status = Status.failed  # so that the next close() tries again, and does not wait
            raise

    async def _finish_changes(self) -> None:
        """Finish the requested changes, or log why that failed; then no change is in progress."""
        try:
            if self._correct_state_waiting or self._has_pending_changes():
                await self._correct_state()
            async with self._lock:
                pass
        except Exception as error:
            logger.error("closed with pending changes: %s", error)
        else:
            if self._has_pending_changes() and self.failures:
                logger.error("closed with pending changes: %s", combine_errors(self.failures))
        await asyncio.gather(*self._futures, return_exceptions=True)

    # Changing.

    def nodes_of(self, group: str) -> set[str]:
        """Return the nodes of a group, including those still to be launched."""
        return set(nodes_in_group([*self.worker_spec], group))

    def joined_nodes(self) -> dict[str, set[str]]:
        """Return each node's Dask workers that the scheduler knows.

        A Dask worker that belongs to no node is returned under its own name.
        """
        joined: dict[str, set[str]] = {}
        for worker in self.scheduler_info["workers"].values():
            dask_name = str(worker["name"])
            joined.setdefault(self._nodes.get(dask_name, dask_name), set()).add(dask_name)
        return joined

    async def _correct_and_log_errors(self) -> None:
        """Correct the state when no caller awaits the result."""
        try:
            await self._correct_state()
        except PlanapplyError as error:
            logger.error("%s", error)
        except Exception:
            logger.exception("cannot change the cluster")

    def _has_pending_changes(self) -> bool:
        context, specified = self._context, dict(self.worker_spec)
        return (
            bool(context.targets)
            or any(n not in specified for n in list(self.workers))
            or any(n not in self.workers and context.is_pending(e) for n, e in specified.items())
        )

    async def _reconcile(self) -> None:
        if not self._has_pending_changes():
            await super()._reconcile()
            return
        context = self._context
        async with context.session.open_async() as opened:
            sizes = context.targets.take()
            await self._sync_with_state(opened)
            errors: dict[Any, BaseException] = {}
            for group, nodes in sizes.items():
                try:
                    await self._resize(opened, group, nodes)
                except PlanapplyError as error:
                    errors[group] = error
            await super()._reconcile()
            context.targets.drop_left(self.workers.keys())
            if errors:
                self.failures = errors
                raise combine_errors(errors)

    async def _sync_with_state(self, opened: LockedCluster) -> None:
        """Bring this view up to date with the state, which this process has locked."""
        context = self._context
        state = opened.fleet.journal.read(lambda state: state)
        record = state.scheduler
        is_same_scheduler = record is not None and record.vm == self.scheduler.record.vm
        if not is_same_scheduler or SCHEDULER in opened.gone:
            raise PlanapplyError(
                f"cannot change cluster {state.cluster!r}: its scheduler was destroyed or replaced",
                "Open the cluster again with planapply.Cluster.from_spec.",
            )
        if gone := [name for name in opened.gone if context.is_elastic(name)]:
            # The record is all that is known of such a VM: should it exist after all, this terminates it.
            await asyncio.to_thread(opened.fleet.terminate, gone)
        self._merge_state(state, opened.gone)
        terminating = [n for n, r in state.nodes.items() if r.status == "terminating"]
        terminating = [name for name in terminating if context.is_elastic(name)]
        for name in terminating:  # the process that began to terminate it has died
            record = state.nodes[name]
            self.worker_spec[name] = context.make_entry(
                name, _find_config(state, name, record), record
            )
            context.targets.leaving.add(name)
        # Nodes can only be terminated through a handle.
        specified = self.worker_spec.items()
        await super()._open_workers(
            [n for n, e in specified if n not in self.workers and context.is_recorded(e)]
        )
        for name in terminating:
            del self.worker_spec[name]
        for name in [n for n in self.workers if n not in self.worker_spec and n in state.nodes]:
            if not context.is_elastic(name):
                logger.warning(
                    "keeping %s: its group has a `count`, which only the spec changes", name
                )
                self._restore_entry(name)

    async def _resize(self, opened: LockedCluster, group: str, nodes: int) -> None:
        """Resize the group to this number of nodes, whatever other processes have done since."""
        context = self._context
        missing = self._retain_nodes(group, nodes)
        new: dict[str, Any] = {}
        try:
            if missing:
                reserved = await asyncio.to_thread(
                    reserve_names, context.workspace, opened, group, missing
                )
                names, config = reserved
                new = {name: context.make_entry(name, config) for name in names}
                context.targets.grant(names)
        finally:
            self._replace_pending_nodes(group, new)

    def _request_size(self, group: str, nodes: int) -> None:
        """Request a number of nodes, and show it in `worker_spec` until `_resize` decides."""
        context = self._context
        context.targets.request(group, nodes)
        missing = self._retain_nodes(group, nodes)
        config = context.provisional_config(group)
        names = self._next_names(group, missing)
        new = {name: context.make_entry(name, config) for name in names}
        self._replace_pending_nodes(group, new)

    def _find_leaving(self, workers: Collection[str]) -> set[str]:
        """Return the nodes that `scale_down` is to terminate, given by any of their names."""
        if isinstance(workers, str):
            raise ValueError(
                f"cannot scale down {workers!r}: pass a list of names, as in scale_down([{workers!r}])"
            )
        workers = list(workers)
        if SCHEDULER in workers or self.scheduler_address in workers:
            raise ValueError(
                "cannot scale down the scheduler: the cluster cannot run without it. To remove the "
                "whole cluster, call destroy()."
            )
        known = self.scheduler_info["workers"]
        found = {
            w: self._nodes.get(str(n := known[w]["name"] if w in known else w), n) for w in workers
        }
        # Adaptivity passes nodes that have just left.
        unknown = [str(w) for w, name in found.items() if name not in self.worker_spec]
        if unknown:
            logger.warning("scale_down ignored %s: there is no such node", ", ".join(unknown))
        return {*found.values()} & self.worker_spec.keys()

    def _view(self, group: str) -> GroupView:
        specified, handles = self.nodes_of(group), nodes_in_group([*self.workers], group)
        return GroupView(
            specified=specified,
            pending={
                name
                for name in specified
                if name not in self.workers and self._context.is_pending(self.worker_spec[name])
            },
            handles=handles,
            running=[name for name in handles if self.workers[name].status == Status.running],
            joined=self.joined_nodes(),
        )

    def _next_names(self, group: str, count: int) -> list[str]:
        return self._context.targets.provisional_names(group, self._view(group), count)

    def _retain_nodes(self, group: str, nodes: int) -> int:
        """Specify the nodes that stay; return the number of nodes that are missing."""
        selection = self._context.targets.select(self._view(group), nodes)
        for name in selection.restore:
            self._restore_entry(name)
        for name in selection.remove:
            del self.worker_spec[name]
        return selection.missing

    def _replace_pending_nodes(self, group: str, new: Mapping[str, Any]) -> None:
        for name in self._view(group).pending:
            del self.worker_spec[name]
        self.worker_spec.update(new)

    def _restore_entry(self, name: str) -> None:
        handle = self.workers[name]
        self.worker_spec[name] = self._context.make_entry(name, handle.config, handle.record)

    async def _open_workers(self, names: Collection[Any]) -> dict[Any, BaseException]:
        context = self._context
        # Nodes that were requested during this change have no granted names yet.
        names = [
            n
            for n in names
            if not context.is_pending(self.worker_spec[n]) or context.targets.is_granted(n)
        ]
        failures = await super()._open_workers(names)
        failed = failures.keys() & context.targets.end_launch()
        context.start_backoff(failed)
        for name in failed:  # its index is never used again
            self.worker_spec.pop(name, None)
        return failures

    # News from the scheduler.

    async def _handle_lost(self, name: Any) -> None:
        handle = self.workers[name]
        if not isinstance(handle, VMProcess):
            await super()._handle_lost(name)
            return
        if self._context.is_elastic(name):
            await handle.close()  # removes it from the state as well
            logger.warning("%s was lost: its VM no longer exists", name)
        else:
            if handle.record is not None:
                self._context.gone_vms.add(handle.record.vm)
            handle.release()
            logger.warning(
                "%s was lost: its VM no longer exists. Run `planapply apply` to replace it.", name
            )
        self._drop(name)
        self.worker_spec.pop(name, None)

    async def _apply_identity(self, identity: Mapping[str, Any]) -> None:
        await super()._apply_identity(identity)
        if self._context.has_prices:
            await asyncio.to_thread(self._context.load_prices, records_of(self))
        joined = self.joined_nodes().keys()
        unknown_nodes = [n for n in joined - self.workers.keys() if split_name(n) != (n, 0)]
        if unknown_nodes or not self.workers.keys() <= joined:
            # Another process may have launched it, or terminated it before it was ever seen here.
            async with self._lock:
                self._merge_state(await asyncio.to_thread(self._context.read), ())
            self.loop.add_callback(self._correct_and_log_errors)

    def _on_event(self, event: Event) -> None:
        text = format_event(event)
        self._cluster_manager_logs.append((datetime.now(), text))
        level = logging.WARNING if event.event in ("failed", "note") else logging.INFO
        logger.log(level, "%s", text)


def _find_config(state: State, name: str, record: NodeRecord) -> NodeConfig:
    # The configuration of a VM that was adopted by its tags may not be in any state.
    config = state.configs.get(record.config)
    return config or NodeConfig(group=split_name(name)[0], cls="unknown")
