"""A SpecCluster whose nodes stand in a state, which other processes change as well."""

import asyncio
import logging
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from distributed.core import Status
from distributed.deploy.cluster import Cluster as DaskCluster

from planapply.api.context import ClusterContext, format_event, nodes_in_group
from planapply.dask.handles import VMProcess, VMScheduler
from planapply.dask.scheduler import build_security, wait_until_reachable
from planapply.dask.speccluster import RobustSpecCluster, combine_errors
from planapply.model.diagnostics import PlanapplyError
from planapply.model.endpoint import build_endpoint
from planapply.model.event import Event
from planapply.model.names import SCHEDULER, node_name, split_name
from planapply.model.node import NodeConfig
from planapply.model.state import NodeRecord, State
from planapply.ops.scale import LockedCluster, reserve_names

logger = logging.getLogger("planapply")


class StateBackedCluster(RobustSpecCluster):
    """Attaches to what runs, changes it under the state's lock, and leaves it running.

    Without `_context` it is a SpecCluster like any other.
    """

    _context: ClusterContext | None = None

    # Attaching.

    async def _start(self) -> None:
        if self._context is not None and self.status == Status.created:
            self.status = Status.starting  # who else awaits it waits
            try:
                await self._adopt(self._context)
            except BaseException:
                self.status = Status.failed
                await self._close()
                raise
            self.status = Status.created
        name = self.name
        await super()._start()
        if self._context is not None:
            self.name = name  # the scheduler may have been told another one

    async def _adopt(self, context: ClusterContext) -> None:
        refreshed = await asyncio.to_thread(context.refresh)
        state, record = refreshed.state, refreshed.state.scheduler
        if record is None or SCHEDULER in refreshed.gone:
            raise PlanapplyError(
                f"the scheduler of cluster {state.cluster!r} does not run",
                "`planapply apply` starts it.",
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
        self._merge_state(context, state, refreshed.gone)

    def _merge_state(self, context: ClusterContext, state: State, gone: Collection[str]) -> None:
        """What others have launched joins this view, and what they have ended leaves it.

        `gone` are nodes whose VMs the cloud does not show, where it was asked.
        """
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
        context.next_index = dict(state.next_index)

    # Leaving.

    async def _close(self) -> None:
        context = self._context
        if context is None:
            await super()._close()
            return
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
                await self._finish_changes(context)
            self._leave_context()
            # Not SpecCluster's own, which ends all nodes.
            await DaskCluster._close(self)
        except BaseException:  # such as its timeout
            self.status = Status.failed  # the next close() tries again, and does not wait for this
            raise

    async def _finish_changes(self, context: ClusterContext) -> None:
        """What was asked is done, or said not to be; then nothing is under way any more."""
        try:
            if self._correct_state_waiting or self._has_pending_changes(context):
                await self._correct_state()
            async with self._lock:
                pass
        except Exception as error:
            logger.error("left before all that was asked was done: %s", error)
        else:
            if self._has_pending_changes(context) and self.failures:
                logger.error(
                    "left before all that was asked was done: %s", combine_errors(self.failures)
                )
        await asyncio.gather(*self._futures, return_exceptions=True)

    # Changing.

    def nodes_of(self, group: str) -> set[str]:
        """The nodes that a group has, or shall have once what was asked is done."""
        return set(nodes_in_group([*self.worker_spec], group))

    def joined_nodes(self) -> dict[str, set[str]]:
        """Node -> those of its Dask workers that the scheduler knows; others under their own name."""
        joined: dict[str, set[str]] = {}
        for worker in self.scheduler_info["workers"].values():
            dask_name = str(worker["name"])
            joined.setdefault(self._nodes.get(dask_name, dask_name), set()).add(dask_name)
        return joined

    async def _correct_and_log_errors(self) -> None:
        """For who does not await it."""
        try:
            await self._correct_state()
        except PlanapplyError as error:
            logger.error("%s", error)
        except Exception:
            logger.exception("the cluster could not be changed")

    def _has_pending_changes(self, context: ClusterContext) -> bool:
        specified = dict(self.worker_spec)
        return (
            bool(context.targets)
            or any(n not in specified for n in list(self.workers))
            or any(n not in self.workers and context.is_pending(e) for n, e in specified.items())
        )

    async def _reconcile(self) -> None:
        context = self._context
        if context is None or not self._has_pending_changes(context):
            await super()._reconcile()
            return
        async with context.session.open_async() as opened:
            targets, context.targets = context.targets, {}
            await self._sync_with_state(context, opened)
            errors: dict[Any, BaseException] = {}
            for group, nodes in targets.items():
                try:
                    await self._resize(context, opened, group, nodes)
                except PlanapplyError as error:
                    errors[group] = error
            await super()._reconcile()
            context.leaving &= self.workers.keys()
            if errors:
                self.failures = errors
                raise combine_errors(errors)

    async def _sync_with_state(self, context: ClusterContext, opened: LockedCluster) -> None:
        """This view is that of the state again, which is ours now."""
        state = opened.fleet.journal.read(lambda state: state)
        record = state.scheduler
        is_same_scheduler = record is not None and record.vm == self.scheduler.record.vm
        if not is_same_scheduler or SCHEDULER in opened.gone:
            raise PlanapplyError(
                f"the scheduler of cluster {state.cluster!r} was ended or replaced meanwhile",
                "Open the cluster again: planapply.Cluster.from_spec.",
            )
        if gone := [name for name in opened.gone if context.is_elastic(name)]:
            # Should one of them be there all the same, this ends it: its record is all there is.
            await asyncio.to_thread(opened.fleet.terminate, gone)
        self._merge_state(context, state, opened.gone)
        terminating = [n for n, r in state.nodes.items() if r.status == "terminating"]
        terminating = [name for name in terminating if context.is_elastic(name)]
        for name in terminating:  # whoever began to end it has died
            record = state.nodes[name]
            self.worker_spec[name] = context.make_entry(
                name, _find_config(state, name, record), record
            )
            context.leaving.add(name)
        # What has no handle could not be ended.
        specified = self.worker_spec.items()
        await super()._open_workers(
            [n for n, e in specified if n not in self.workers and context.is_recorded(e)]
        )
        for name in terminating:
            del self.worker_spec[name]
        for name in [n for n in self.workers if n not in self.worker_spec and n in state.nodes]:
            if not context.is_elastic(name):
                logger.warning("%s stays: its group has a `count`, which the spec changes", name)
                self._restore_entry(context, name)

    async def _resize(
        self, context: ClusterContext, opened: LockedCluster, group: str, nodes: int
    ) -> None:
        """Let the group have so many nodes, whatever others did since that was asked."""
        missing = self._retain_nodes(context, group, nodes)
        new: dict[str, Any] = {}
        try:
            if missing:
                reserved = await asyncio.to_thread(
                    reserve_names, context.workspace, opened, group, missing
                )
                names, config = reserved
                new = {name: context.make_entry(name, config) for name in names}
                context.reserved_names.update(names)
        finally:
            self._replace_pending_nodes(context, group, new)

    def _set_target(self, context: ClusterContext, group: str, nodes: int) -> None:
        """What `worker_spec` shows until the state is ours, and `_resize` decides."""
        context.targets[group] = nodes
        missing = self._retain_nodes(context, group, nodes)
        config = context.provisional_config(group)
        names = self._next_names(context, group, missing)
        self._replace_pending_nodes(
            context, group, {name: context.make_entry(name, config) for name in names}
        )

    def _replace_pending_nodes(
        self, context: ClusterContext, group: str, new: Mapping[str, Any]
    ) -> None:
        for name in self._pending_nodes(context, group):
            del self.worker_spec[name]
        self.worker_spec.update(new)

    def _pending_nodes(self, context: ClusterContext, group: str) -> set[str]:
        """Nodes that are asked for and not launched."""
        entries = self.worker_spec
        return {
            name
            for name in self.nodes_of(group)
            if name not in self.workers and context.is_pending(entries[name])
        }

    def _next_names(self, context: ClusterContext, group: str, count: int) -> list[str]:
        """As far as is known here; the state may know better."""
        known = {*nodes_in_group([*self.workers], group), *self.nodes_of(group)}
        known -= self._pending_nodes(context, group)
        first = max([context.next_index.get(group, 0), *(split_name(n)[1] + 1 for n in known)])
        return [node_name(group, index) for index in range(first, first + count)]

    def _retain_nodes(self, context: ClusterContext, group: str, nodes: int) -> int:
        """Specify those nodes that stay; gives how many are missing."""
        for name in nodes_in_group([*self.workers], group):
            is_leaving = name in context.leaving or self.workers[name].status != Status.running
            if name not in self.worker_spec and not is_leaving:
                self._restore_entry(context, name)
        joined = self.joined_nodes()
        # Those that have not joined leave first, then those of the highest numbers.
        existing = self.nodes_of(group) - self._pending_nodes(context, group)
        ordered = sorted(existing, key=lambda n: (n not in joined, split_name(n)[1]))
        for name in ordered[nodes:]:
            del self.worker_spec[name]
        return max(0, nodes - len(ordered))

    def _restore_entry(self, context: ClusterContext, name: str) -> None:
        handle = self.workers[name]
        self.worker_spec[name] = context.make_entry(name, handle.config, handle.record)

    async def _open_workers(self, names: Collection[Any]) -> dict[Any, BaseException]:
        context = self._context
        if context is None:
            return await super()._open_workers(names)
        # What was asked in this very moment has no names of its own yet.
        names = [
            n
            for n in names
            if not context.is_pending(self.worker_spec[n]) or n in context.reserved_names
        ]
        failures = await super()._open_workers(names)
        failed = [name for name in failures if name in context.reserved_names]
        context.reserved_names.clear()
        context.start_backoff(failed)
        for name in failed:  # its index is never given again
            self.worker_spec.pop(name, None)
        return failures

    # What the scheduler says.

    async def _handle_lost(self, name: Any) -> None:
        context = self._context
        handle = self.workers[name]
        if context is None or not isinstance(handle, VMProcess):
            await super()._handle_lost(name)
            return
        if context.is_elastic(name):
            await handle.close()  # leaves the state as well
            logger.warning("%s is gone with its VM", name)
        else:
            if handle.record is not None:
                context.gone_vms.add(handle.record.vm)
            handle.release()
            logger.warning("%s is gone with its VM; `planapply apply` brings it back", name)
        self._drop(name)
        self.worker_spec.pop(name, None)

    async def _apply_identity(self, identity: Mapping[str, Any]) -> None:
        await super()._apply_identity(identity)
        context = self._context
        if context is None:
            return
        joined = self.joined_nodes().keys()
        unknown_nodes = [n for n in joined - self.workers.keys() if split_name(n) != (n, 0)]
        if unknown_nodes or not self.workers.keys() <= joined:
            # Others may have launched it, or ended it before it was ever seen here.
            async with self._lock:
                self._merge_state(context, await asyncio.to_thread(context.read), ())
            self.loop.add_callback(self._correct_and_log_errors)

    def _on_event(self, event: Event) -> None:
        text = format_event(event)
        self._cluster_manager_logs.append((datetime.now(), text))
        level = logging.WARNING if event.event in ("failed", "note") else logging.INFO
        logger.log(level, "%s", text)


def _find_config(state: State, name: str, record: NodeRecord) -> NodeConfig:
    # A VM that was adopted by its tags may have been made from what no state remembers.
    config = state.configs.get(record.config)
    return config or NodeConfig(group=split_name(name)[0], cls="unknown")
