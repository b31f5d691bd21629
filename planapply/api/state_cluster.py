"""A SpecCluster whose nodes stand in a state, which other processes change as well."""

import asyncio
import logging
from collections.abc import Collection, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from distributed.core import Status
from distributed.deploy.cluster import Cluster as DaskCluster

from planapply.api.context import Live, members, say
from planapply.api.reach import answering
from planapply.dask.handles import VMProcess, VMScheduler
from planapply.dask.scheduler import security_of
from planapply.dask.speccluster import MendedSpecCluster, together
from planapply.model.diagnostics import PlanapplyError
from planapply.model.endpoint import endpoint
from planapply.model.event import Event
from planapply.model.names import SCHEDULER, node_name, split_name
from planapply.model.node import NodeConfig
from planapply.model.state import NodeRecord, State
from planapply.ops.scale import Opened, grow
from planapply.ops.workspace import asking

logger = logging.getLogger("planapply")


class AdoptedCluster(MendedSpecCluster):
    """Attaches to what runs, changes it under the state's lock, and leaves it running.

    Without `_live` it is a SpecCluster like any other.
    """

    _live: Live | None = None

    # Attaching.

    async def _start(self) -> None:
        if self._live is not None and self.status == Status.created:
            self.status = Status.starting  # who else awaits it waits
            try:
                await self._adopt(self._live)
            except BaseException:
                self.status = Status.failed
                await self._close()
                raise
            self.status = Status.created
        name = self.name
        await super()._start()
        if self._live is not None:
            self.name = name  # the scheduler may have been told another one

    async def _adopt(self, live: Live) -> None:
        found = await asyncio.to_thread(live.look)
        state, record = found.state, found.state.scheduler
        if record is None or SCHEDULER in found.gone:
            raise PlanapplyError(
                f"the scheduler of cluster {state.cluster!r} does not run",
                "`planapply apply` starts it.",
            )
        config = state.configs[record.config]
        where = endpoint(record, config)
        address = await answering(state.cluster, where, state.tls, live.timeout)
        self.security = security_of(state.tls)
        self.scheduler = await VMScheduler(config=config, queue=live.queue, record=record)
        self.scheduler.external_address = address
        self.name = state.cluster
        self._absorb(live, state, found.gone)

    def _absorb(self, live: Live, state: State, gone: Collection[str]) -> None:
        """What others have launched joins this view, and what they have ended leaves it.

        `gone` are nodes whose VMs the cloud does not show, where it was asked.
        """
        live.ended.update(state.nodes[name].vm for name in gone if name in state.nodes)
        there = {
            name: record
            for name, record in state.nodes.items()
            if name != SCHEDULER and record.status != "terminating" and record.vm not in live.ended
        }
        for name, handle in list(self.workers.items()):
            if not isinstance(handle, VMProcess) or handle.record is None:
                continue
            record = state.nodes.get(name)
            is_ours_to_end = name not in self.worker_spec and record is not None
            if is_ours_to_end and handle.record.vm not in live.ended:
                continue
            if name not in there or there[name].vm != handle.record.vm:
                handle.let_go()
                self._forget(name)
                self.worker_spec.pop(name, None)
        for name, record in there.items():
            if name not in self.workers:
                self.worker_spec[name] = live.entry(name, _config(state, name, record), record)
        live.next_index = dict(state.next_index)

    # Leaving.

    async def _close(self) -> None:
        live = self._live
        if live is None:
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
            await self._stop_watching()
            if self.scheduler_comm is not None:
                await self._finish(live)
            self._leave_context()
            # Not SpecCluster's own, which ends all nodes.
            await DaskCluster._close(self)
        except BaseException:  # such as its timeout
            self.status = Status.failed  # the next close() tries again, and does not wait for this
            raise

    async def _finish(self, live: Live) -> None:
        """What was asked is done, or said not to be; then nothing is under way any more."""
        try:
            if self._correct_state_waiting or self._has_changes(live):
                await self._correct_state()
            async with self._lock:
                pass
        except Exception as error:
            logger.error("left before all that was asked was done: %s", error)
        else:
            if self._has_changes(live) and self.failures:
                logger.error("left before all that was asked was done: %s", together(self.failures))
        await asyncio.gather(*self._futures, return_exceptions=True)

    # Changing.

    def nodes_of(self, group: str) -> set[str]:
        """The nodes that a group has, or shall have once what was asked is done."""
        return set(members([*self.worker_spec], group))

    def joined_nodes(self) -> dict[str, set[str]]:
        """Node -> those of its Dask workers that the scheduler knows; others under their own name."""
        joined: dict[str, set[str]] = {}
        for worker in self.scheduler_info["workers"].values():
            dask_name = str(worker["name"])
            joined.setdefault(self._nodes.get(dask_name, dask_name), set()).add(dask_name)
        return joined

    async def _correct_and_tell(self) -> None:
        """For who does not await it."""
        try:
            await self._correct_state()
        except PlanapplyError as error:
            logger.error("%s", error)
        except Exception:
            logger.exception("the cluster could not be changed")

    def _has_changes(self, live: Live) -> bool:
        specified = dict(self.worker_spec)
        return (
            bool(live.targets)
            or any(n not in specified for n in list(self.workers))
            or any(n not in self.workers and live.is_asked(e) for n, e in specified.items())
        )

    async def _correct(self) -> None:
        live = self._live
        if live is None or not self._has_changes(live):
            await super()._correct()
            return
        async with live.session.held() as opened:
            asked, live.targets = live.targets, {}
            await self._catch_up(live, opened)
            refused: dict[Any, BaseException] = {}
            for group, nodes in asked.items():
                try:
                    await self._resize(live, opened, group, nodes)
                except PlanapplyError as error:
                    refused[group] = error
            await super()._correct()
            live.leaving &= self.workers.keys()
            if refused:
                self.failures = refused
                raise together(refused)

    async def _catch_up(self, live: Live, opened: Opened) -> None:
        """This view is that of the state again, which is ours now."""
        state = opened.fleet.journal.read(lambda state: state)
        record = state.scheduler
        is_same = record is not None and record.vm == self.scheduler.record.vm
        if not is_same or SCHEDULER in opened.gone:
            raise PlanapplyError(
                f"the scheduler of cluster {state.cluster!r} was ended or replaced meanwhile",
                "Open the cluster again: planapply.Cluster.from_spec.",
            )
        if gone := [name for name in opened.gone if live.is_elastic(name)]:
            # Should one of them be there all the same, this ends it: its record is all there is.
            await asyncio.to_thread(asking, partial(opened.fleet.terminate, gone))
        self._absorb(live, state, opened.gone)
        begun = [n for n, r in state.nodes.items() if r.status == "terminating"]
        begun = [name for name in begun if live.is_elastic(name)]
        for name in begun:  # whoever began to end it has died
            record = state.nodes[name]
            self.worker_spec[name] = live.entry(name, _config(state, name, record), record)
            live.leaving.add(name)
        # What has no handle could not be ended.
        specified = self.worker_spec.items()
        await super()._open([n for n, e in specified if n not in self.workers and live.is_there(e)])
        for name in begun:
            del self.worker_spec[name]
        for name in [n for n in self.workers if n not in self.worker_spec and n in state.nodes]:
            if not live.is_elastic(name):
                logger.warning("%s stays: its group has a `count`, which the spec changes", name)
                self._take_back(live, name)

    async def _resize(self, live: Live, opened: Opened, group: str, nodes: int) -> None:
        """Let the group have so many nodes, whatever others did since that was asked."""
        missing = self._choose(live, group, nodes)
        new: dict[str, Any] = {}
        try:
            if missing:
                grown = await asyncio.to_thread(grow, live.workspace, opened, group, missing)
                names, config = grown
                new = {name: live.entry(name, config) for name in names}
                live.granted.update(names)
        finally:
            self._replace_sketch(live, group, new)

    def _sketch(self, live: Live, group: str, nodes: int) -> None:
        """What `worker_spec` shows until the state is ours, and `_resize` decides."""
        live.targets[group] = nodes
        missing = self._choose(live, group, nodes)
        config = live.sketch(group)
        names = self._next_names(live, group, missing)
        self._replace_sketch(live, group, {name: live.entry(name, config) for name in names})

    def _replace_sketch(self, live: Live, group: str, new: Mapping[str, Any]) -> None:
        for name in self._sketched(live, group):
            del self.worker_spec[name]
        self.worker_spec.update(new)

    def _sketched(self, live: Live, group: str) -> set[str]:
        """Nodes that are asked for and not launched."""
        entries = self.worker_spec
        return {
            name
            for name in self.nodes_of(group)
            if name not in self.workers and live.is_asked(entries[name])
        }

    def _next_names(self, live: Live, group: str, count: int) -> list[str]:
        """As far as is known here; the state may know better."""
        known = {*members([*self.workers], group), *self.nodes_of(group)}
        known -= self._sketched(live, group)
        first = max([live.next_index.get(group, 0), *(split_name(n)[1] + 1 for n in known)])
        return [node_name(group, index) for index in range(first, first + count)]

    def _choose(self, live: Live, group: str, nodes: int) -> int:
        """Specify those nodes that stay; gives how many are missing."""
        for name in members([*self.workers], group):
            leaves = name in live.leaving or self.workers[name].status != Status.running
            if name not in self.worker_spec and not leaves:
                self._take_back(live, name)
        joined = self.joined_nodes()
        # Those that have not joined leave first, then those of the highest numbers.
        there = self.nodes_of(group) - self._sketched(live, group)
        have = sorted(there, key=lambda n: (n not in joined, split_name(n)[1]))
        for name in have[nodes:]:
            del self.worker_spec[name]
        return max(0, nodes - len(have))

    def _take_back(self, live: Live, name: str) -> None:
        handle = self.workers[name]
        self.worker_spec[name] = live.entry(name, handle.config, handle.record)

    async def _open(self, names: Collection[Any]) -> dict[Any, BaseException]:
        live = self._live
        if live is None:
            return await super()._open(names)
        # What was asked in this very moment has no names of its own yet.
        names = [n for n in names if not live.is_asked(self.worker_spec[n]) or n in live.granted]
        failures = await super()._open(names)
        failed = [name for name in failures if name in live.granted]
        live.granted.clear()
        live.hold_back(failed)
        for name in failed:  # its index is never given again
            self.worker_spec.pop(name, None)
        return failures

    # What the scheduler says.

    async def _lost(self, name: Any) -> None:
        live = self._live
        handle = self.workers[name]
        if live is None or not isinstance(handle, VMProcess):
            await super()._lost(name)
            return
        if live.is_elastic(name):
            await handle.close()  # leaves the state as well
            logger.warning("%s is gone with its VM", name)
        else:
            if handle.record is not None:
                live.ended.add(handle.record.vm)
            handle.let_go()
            logger.warning("%s is gone with its VM; `planapply apply` brings it back", name)
        self._forget(name)
        self.worker_spec.pop(name, None)

    async def _see(self, identity: Mapping[str, Any]) -> None:
        await super()._see(identity)
        live = self._live
        if live is None:
            return
        joined = self.joined_nodes().keys()
        strangers = [n for n in joined - self.workers.keys() if split_name(n) != (n, 0)]
        if strangers or not self.workers.keys() <= joined:
            # Others may have launched it, or ended it before it was ever seen here.
            async with self._lock:
                self._absorb(live, await asyncio.to_thread(live.read), ())
            self.loop.add_callback(self._correct_and_tell)

    def _tell(self, event: Event) -> None:
        text = say(event)
        self._cluster_manager_logs.append((datetime.now(), text))
        level = logging.WARNING if event.event in ("failed", "note") else logging.INFO
        logger.log(level, "%s", text)


def _config(state: State, name: str, record: NodeRecord) -> NodeConfig:
    # A VM that was adopted by its tags may have been made from what no state remembers.
    known = state.configs.get(record.config)
    return known or NodeConfig(group=split_name(name)[0], cls="unknown")
