"""The executor: turns a plan into handles, and awaits them."""

import asyncio
from collections.abc import Awaitable, Collection, Iterable, Mapping
from contextlib import nullcontext
from typing import Any

from planapply.dask.batching import NodeFailed, RequestQueue
from planapply.dask.handles import VMProcess, VMScheduler, VMWorker
from planapply.dask.scheduler import NO_RECIPIENT
from planapply.dask.scheduler_changes import (
    LifetimesNotChanged,
    NotRetired,
    retire_workers,
    set_lifetimes,
)
from planapply.dask.wait_for_join import wait_for_joins
from planapply.diff import RefreshResult
from planapply.diff.tags import TAG_PATH, own_fields
from planapply.diff.waves import stops_running_node
from planapply.fleet import Fleet, ProviderFailed
from planapply.fleet.tls import make_tls
from planapply.model.diagnostics import PlanapplyError
from planapply.model.endpoint import current_endpoint
from planapply.model.event import Event
from planapply.model.names import SCHEDULER, split_name, worker_names
from planapply.model.node import NodeConfig
from planapply.model.plan import Action, Change, ChangeReason, DriftKind, Mode, Plan
from planapply.model.state import NodeRecord, Resource, State
from planapply.store import StateError

INCOMPLETE = "not replaced: the previous wave is incomplete"


async def execute(
    plan: Plan,
    fleet: Fleet,
    *,
    resources: Mapping[str, Resource],
    refreshed: RefreshResult,
    wait: bool = True,
    retire: bool = True,
) -> dict[str, PlanapplyError]:
    """Execute a plan; return the errors by node. All other changes are made and recorded.

    `resources` are the supporting resources that the provider needs; `refreshed` says what has drifted. With
    `wait`, wait until all launched nodes have joined, including those of earlier runs; use it only for plans
    that leave nodes. Without, do not connect to the launched scheduler. A plan with several waves is executed
    wave by wave; with `wait`, which all but plans of mode HEAL need, each wave must have joined: after one
    that is incomplete, the nodes of the later waves stay, each with an error. With `retire`, a leaving node
    whose workers cannot be retired stays, with an error, if other workers stay. Raises Stopped if stopped,
    and PlanapplyError if the rest of the plan cannot be executed.
    """
    run = _Execution(plan, fleet, refreshed)
    if run.has_resource_changes:
        # First: an open request needs its resources, and what they allow is closed as soon as possible.
        await run.prepare(resources)
    await run.resolve_intents()
    for number, names in enumerate(run.parts):
        if wait:
            await run.begin(number)
        if retire:
            await run.retire(names)
        await run.terminate_leaving(names)
        if run.to_launch and number == 0:
            await run.prepare(resources)
        await run.open(names)
    await run.update_tags()
    must_join = wait and run.is_scheduler_starting
    if not must_join:
        await run.update_lifetimes()  # at once, because the cluster may be about to end
    await run.cleanup()
    if wait:
        await run.join()
    if must_join:
        await run.update_lifetimes()
    return run.failures


class _Execution:
    def __init__(self, plan: Plan, fleet: Fleet, refreshed: RefreshResult) -> None:
        self.plan, self.fleet, self.refreshed = plan, fleet, refreshed
        self.resource_drift = dict(refreshed.resources)
        self.queue = RequestQueue(lambda: nullcontext(fleet))
        self.failures: dict[str, PlanapplyError] = {}
        self.configs = {**fleet.journal.read(lambda state: dict(state.configs)), **plan.configs}
        self.nodes = [change for change in plan.changes if change.kind == "node"]
        self.to_launch: dict[str, Change] = {}
        self.to_terminate: dict[str, NodeRecord] = {}
        self.is_healing = plan.mode is Mode.HEAL
        self.unanswered = ""
        """Why the scheduler has not answered a request to retire workers."""
        self.launched: list[str] = []
        self.to_retag: dict[str, list[str]] = {}
        """Config digest -> nodes that get its tags."""
        later = [frozenset(wave) for wave in plan.waves[1:]]
        first = {change.name for change in self.nodes}.difference(*later)
        self.parts = [frozenset(first), *later]
        """The nodes of each wave; the first also has all that are not in any wave."""

    @property
    def has_resource_changes(self) -> bool:
        """Whether the plan creates or changes supporting resources."""
        kept = (change for change in self.plan.changes if change.kind == "resource")
        return any(change.action is not Action.DESTROY for change in kept)

    def _records(self) -> dict[str, NodeRecord]:
        return self.fleet.journal.read(lambda state: dict(state.nodes))

    def _config(self, digest: str, name: str) -> NodeConfig:
        # The configuration of a VM that was adopted by its tags may be unknown.
        return self.configs.get(digest) or NodeConfig(group=split_name(name)[0], cls="unknown")

    async def resolve_intents(self) -> None:
        """Resolve the intents, and sort the changes by what is left to do after that."""
        desired = {change.name: change.after for change in self.nodes if change.after}
        await asyncio.to_thread(self.fleet.resolve_intents, desired)
        records = self._records()
        for change in self.nodes:
            record = records.get(change.name)
            if change.action is Action.UPDATE:
                if any(field.path.startswith(TAG_PATH) for field in change.fields):
                    self.to_retag.setdefault(change.after or "", []).append(change.name)
                continue
            if record is not None and change.after is not None and record.vm != change.vm:
                config = self.configs[change.after]
                if record.config in config.digests:
                    self.launched.append(change.name)
                    if self.fleet.client.can_retag and record.tags != config.tags:
                        self.to_retag.setdefault(change.after, []).append(change.name)
                    continue
            if change.action is not Action.DESTROY:
                self.to_launch[change.name] = change
            if record is not None:
                self.to_terminate[change.name] = record
        if SCHEDULER in self.launched:
            await asyncio.to_thread(self.fleet.record_endpoint)

    async def begin(self, number: int) -> None:
        """Begin a wave; if an earlier one is incomplete, keep the nodes left to replace, with an error.

        Nodes of these groups that were launched before, also by an earlier run, must have joined before a
        node that has joined may leave.
        """
        waves = self.plan.waves
        left = [
            name
            for part in self.parts[number:]
            for name in part
            if name in self.to_launch and stops_running_node(self.to_launch[name])
        ]
        if not waves or not left:
            return
        records = self._records()
        first = (records[n].status for n in left if n in self.parts[0] and n in records)
        if number or "joined" in first:
            groups = {split_name(name)[0] for wave in waves for name in wave}
            names = records.keys() - self.to_terminate.keys()
            await self.join(n for n in names if split_name(n)[0] in groups)
        self.fleet.clock.check()
        if self.failures:
            for name in left:
                self.failures.setdefault(name, NotReplaced(name))
                self.to_launch.pop(name, None)
                self.to_terminate.pop(name, None)
            self.fleet.on_event(Event(event="failed", names=tuple(left), message=INCOMPLETE))
        elif len(waves) > 1:
            message = f"wave {number + 1} of {len(waves)}"
            self.fleet.on_event(Event(event="note", names=waves[number], message=message))

    async def retire(self, names: Collection[str]) -> None:
        """Retire those workers that leave; nodes whose workers the scheduler does not retire stay."""
        endpoint, tls, records = self.fleet.journal.read(
            lambda state: (current_endpoint(state), state.tls, dict(state.nodes))
        )
        leaving = self.to_terminate.keys() & names
        staying = records.keys() - leaving - {SCHEDULER}
        gone = {change.name for change in self.nodes if change.action is Action.CREATE}
        gone |= {item.name for item in self.plan.drift if item.kind in _WITHOUT_WORKERS}
        gone |= {c.name for c in self.nodes if c.reason is ChangeReason.NOT_JOINED}
        gone.difference_update(self.launched)
        retiring = [n for n in self.to_terminate if n in leaving - gone - {SCHEDULER}]
        has_scheduler = SCHEDULER not in self.to_terminate and SCHEDULER not in gone
        if endpoint is None or not has_scheduler or not staying - gone or not retiring:
            return  # no worker stays that could take the data
        workers = {
            name: worker_names(name, self._config(records[name].config, name).processes)
            for name in retiring
        }
        self.fleet.on_event(Event(event="retiring", names=tuple(retiring)))
        dask_names = [worker for node in workers.values() for worker in node]
        remaining, reason = frozenset(dask_names), self.unanswered
        if not reason:  # a later wave would only wait for as long again
            remaining, reason = await retire_workers(
                endpoint, tls, dask_names, is_healing=self.is_healing
            )
            self.unanswered = "" if reason == NO_RECIPIENT else reason
        failed = tuple(n for n in retiring if not remaining.isdisjoint(workers[n]))
        for name in failed:
            del self.to_terminate[name]
            self.failures[name] = NotRetired(name, reason, is_retried=self.is_healing)
        if failed:
            message = f"cannot retire the workers: {reason}"
            self.fleet.on_event(Event(event="failed", names=failed, message=message))

    async def terminate_leaving(self, names: Collection[str]) -> None:
        """Terminate those workers that leave, then the scheduler if it leaves."""
        leaving = [name for name in self.to_terminate if name in names]
        await self._close(name for name in leaving if name != SCHEDULER)
        if SCHEDULER in leaving:
            await self._close([SCHEDULER])
            await asyncio.to_thread(self.fleet.journal.update, _drop_endpoint)
        for name in self.failures:
            self.to_launch.pop(name, None)  # its old VM may still exist
        for name in leaving:
            self.to_terminate.pop(name)

    async def _close(self, names: Iterable[str]) -> None:
        handles = [self._create_handle(name, self.to_terminate[name]) for name in names]
        await asyncio.gather(*handles)  # adopts the nodes
        await self._gather({handle.name: handle.close() for handle in handles})

    def _create_handle(
        self, name: str, record: NodeRecord | None, scheduler: str = ""
    ) -> VMProcess:
        digest = record.config if record else self.to_launch[name].after
        config = self._config(digest or "", name)
        if name == SCHEDULER:
            return VMScheduler(config=config, queue=self.queue, record=record)
        return VMWorker(scheduler, name=name, config=config, queue=self.queue, record=record)

    async def prepare(self, resources: Mapping[str, Resource]) -> None:
        """Create what the first VM needs: the key pair and the supporting resources."""

        def run() -> None:
            has_key = self.fleet.journal.read(lambda state: state.tls is not None)
            if self.plan.security == "tls" and not has_key:
                tls = make_tls(self.plan.cluster)
                self.fleet.journal.update(lambda state: setattr(state, "tls", tls))
            self.fleet.prepare(resources, self.plan.tags, self.resource_drift)
            self.resource_drift = {}

        await asyncio.to_thread(run)

    async def open(self, names: Collection[str]) -> None:
        """Launch the scheduler if it is among these nodes, then those workers that are to be launched."""
        launching = [name for name in self.to_launch if name in names]
        if not launching:
            return
        workers = [name for name in launching if name != SCHEDULER]
        if SCHEDULER in launching:
            await self._gather({SCHEDULER: _start(self._create_handle(SCHEDULER, None))})
        record = self._records().get(SCHEDULER)
        if record is None:
            for name in workers:
                self.failures[name] = PlanapplyError(
                    f"{name} was not launched: the cluster has no scheduler"
                )
            return
        scheduler = self._create_handle(SCHEDULER, record)
        await scheduler
        assert isinstance(scheduler, VMScheduler)
        await asyncio.to_thread(self.fleet.record_endpoint)
        contact_address = scheduler.contact_address or ""
        await self._gather(
            {name: _start(self._create_handle(name, None, contact_address)) for name in workers}
        )
        self.launched += [name for name in launching if name not in self.failures]

    async def update_tags(self) -> None:
        """Change tags in place, for all nodes of a group at once; then restore planapply's own."""
        for digest, names in self.to_retag.items():
            tags = self.plan.configs[digest].tags
            await self._gather({names[0]: asyncio.to_thread(self.fleet.retag, names, tags)})
        updated = {change.name for change in self.nodes if change.action is Action.UPDATE}
        own_tags = {
            name: {f.path.removeprefix(TAG_PATH): f.after for f in own_fields(fields)}
            for name, fields in self.refreshed.tags.items()
            if name in updated and own_fields(fields)
        }
        if own_tags:
            name = next(iter(own_tags))
            await self._gather({name: asyncio.to_thread(self.fleet.restore_tags, own_tags)})

    @property
    def is_scheduler_starting(self) -> bool:
        """Whether the scheduler has not joined yet."""
        record = self._records().get(SCHEDULER)
        return record is not None and record.status == "launched"

    async def update_lifetimes(self) -> None:
        """Send changed lifetimes to the running scheduler, and record them when it has confirmed them."""
        desired = next(
            (
                self.plan.configs[change.after].lifetimes
                for change in self.nodes
                if change.name == SCHEDULER and change.action is Action.UPDATE and change.after
            ),
            None,
        )
        endpoint, tls, record = self.fleet.journal.read(
            lambda state: (current_endpoint(state), state.tls, state.scheduler)
        )
        is_unchanged = record is None or record.lifetimes in (None, desired)
        if desired is None or is_unchanged or SCHEDULER in self.failures:
            return
        reason = await set_lifetimes(endpoint, tls, desired)
        if reason:
            self.failures[SCHEDULER] = LifetimesNotChanged(reason)
            message = f"cannot change the lifetimes: {reason}"
            self.fleet.on_event(Event(event="failed", names=(SCHEDULER,), message=message))
        else:
            await asyncio.to_thread(self.fleet.record_lifetimes, desired)

    async def cleanup(self) -> None:
        """Remove the supporting resources, when nothing uses them any more."""
        destroys = [
            c for c in self.plan.changes if c.kind == "resource" and c.action is Action.DESTROY
        ]
        if destroys and not self.failures:
            await self._gather({destroys[0].name: asyncio.to_thread(self.fleet.cleanup)})

    async def join(self, awaited: Iterable[str] | None = None) -> None:
        """Wait until launched nodes have joined, including those of earlier runs; by default all of them."""
        records = self._records()
        launched = [
            n for n in (records if awaited is None else awaited) if records[n].status == "launched"
        ]
        names = {
            n: self._config(records[n].config, n).processes
            for n in launched
            if n not in self.failures
        }
        if earlier := tuple(names.keys() - self.launched):
            verb = "has" if len(earlier) == 1 else "have"
            message = f"launched earlier; {verb} not joined yet"
            self.fleet.on_event(Event(event="note", names=earlier, message=message))
        if names:
            self.failures.update(await wait_for_joins(self.fleet, names, self.plan.join_timeout))

    async def _gather(self, calls: Mapping[str, Awaitable[Any]]) -> None:
        """Await all calls; keep the errors of nodes, and raise errors that prevent further changes."""
        results = await asyncio.gather(*calls.values(), return_exceptions=True)
        for name, result in zip(calls, results, strict=True):
            if isinstance(result, ProviderFailed):
                self.failures[name] = NodeFailed(name, result.error)
            elif isinstance(result, PlanapplyError) and not isinstance(result, StateError):
                self.failures[name] = result
            elif isinstance(result, BaseException):
                raise result


_WITHOUT_WORKERS = (DriftKind.GONE, DriftKind.STOPPED)
"""How a VM has drifted whose Dask workers cannot run any more."""


class NotReplaced(PlanapplyError):
    """A node that stays as it is, since an earlier wave is incomplete."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name}: {INCOMPLETE}",
            "These VMs keep running with their earlier configuration. Fix the problem, and run the command "
            "again to continue; or restore the earlier spec and apply it to go back.",
            code="not_replaced",
        )


async def _start(handle: VMProcess) -> None:
    await handle


def _drop_endpoint(state: State) -> None:
    state.endpoint = None
