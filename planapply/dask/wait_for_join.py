"""Waiting until launched nodes have joined."""

import asyncio
from collections.abc import Iterable, Mapping

from planapply.dask.failure_excerpt import SEARCHED_LINES, extract_causes
from planapply.dask.scheduler import SchedulerInfo, connect
from planapply.fleet import Fleet
from planapply.model.diagnostics import PlanapplyError
from planapply.model.endpoint import build_endpoint, current_endpoint
from planapply.model.event import Event
from planapply.model.names import SCHEDULER
from planapply.model.state import State
from planapply.specfile.dashboard import missing_plots_of

FIRST_POLL = 0.25  # seconds between the first two calls of the scheduler
LONGEST_POLL = 2.0
ANSWER_TIMEOUT = 30.0  # seconds for one response of a scheduler, which may hang
VM_POLL = 10.0  # maximum seconds between two checks whether a VM has terminated


class NotJoined(PlanapplyError):
    """A node that was launched but has not joined."""

    code = "not_joined"


class _Wait:
    """State of one wait."""

    def __init__(self, fleet: Fleet, names: Mapping[str, int]) -> None:
        self.fleet = fleet
        self.waiting = dict(names)
        self.failures: dict[str, PlanapplyError] = {}
        self.has_reached_scheduler = False
        self.seen: set[str] = set()
        self.missing: set[str] = set()
        """VMs that were visible earlier, but not in the last check."""

    async def poll_scheduler(self) -> None:
        info = await self._read_info()
        if info is None:
            return
        joined = [
            name
            for name, processes in self.waiting.items()
            if name == SCHEDULER or info.has_joined(name, processes)
        ]
        if not self.has_reached_scheduler or joined:
            await asyncio.to_thread(self._record, joined, info.dashboard)
        self.has_reached_scheduler = True
        for name in joined:
            del self.waiting[name]
        if joined:
            self.fleet.on_event(Event(event="joined", names=tuple(joined)))

    async def _read_info(self) -> SchedulerInfo | None:
        cluster, tls, location = self.fleet.journal.read(
            lambda state: (state.cluster, state.tls, current_endpoint(state))
        )
        if location is None:
            return None
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT), connect(location, tls) as scheduler:
                if not self.has_reached_scheduler:
                    await scheduler.set_cluster_name(cluster)
                return await scheduler.info()
        except OSError:  # including TimeoutError
            return None

    def _record(self, joined: list[str], dashboard: int | None) -> None:
        now = self.fleet.clock.time()
        self.fleet.journal.update(lambda state: record_joins(state, joined, dashboard, now))

    def poll_provider(self) -> None:
        """Fail nodes whose VM has terminated, and on workers whose scheduler has."""
        found = self.fleet.find_and_record()
        shown = {vm.id for vm in found if vm.is_active}
        now, delay = self.fleet.clock.time(), self.fleet.client.limits.consistency_delay
        records = self.fleet.journal.read(lambda state: dict(state.nodes))
        # One answer may be stale: a VM that was visible must be missing twice, and one that was never
        # visible may be too new.
        known = {vm.id for vm in found} | self.missing
        ended = {
            name
            for name in {*self.waiting, SCHEDULER}
            if (record := records.get(name)) is None
            or (
                record.vm not in shown
                and (record.vm in known or record.must_be_visible(now, delay))
            )
        }
        self.missing = self.seen - shown
        self.seen |= shown
        for name in [n for n in self.waiting if n in ended]:
            self._fail(name, "terminated before it joined")
        if SCHEDULER in ended:
            for name in list(self.waiting):
                self._fail(name, "cannot join: the scheduler's VM has terminated", console=False)

    def fail_remaining(self, seconds: float) -> None:
        reason = f"did not join within {seconds:g} s"
        if not self.has_reached_scheduler:
            reason += "; this machine cannot reach the scheduler"
        for name in list(self.waiting):
            self._fail(name, reason)

    def _fail(self, name: str, reason: str, *, console: bool = True) -> None:
        del self.waiting[name]
        output = extract_causes(self.fleet.console(name, SEARCHED_LINES)) if console else ""
        detail = f"{output}\nPrint all output with `planapply logs {name}`." if output else ""
        self.failures[name] = NotJoined(f"{name} {reason}", detail)
        self.fleet.on_event(Event(event="failed", names=(name,), message=reason))


def record_joins(state: State, joined: Iterable[str], dashboard: int | None, now: float) -> None:
    """Record that these nodes have joined, and where the scheduler's dashboard is (its port, if any)."""
    for name in joined:
        state.nodes[name].status = "joined"
        state.nodes[name].joined_at = now
    scheduler = state.nodes[SCHEDULER]
    config = state.configs[scheduler.config]
    is_shown = config.options.get("dashboard", True) and not missing_plots_of(state)
    state.endpoint = build_endpoint(scheduler, config, dashboard if is_shown else None)


async def wait_for_joins(
    fleet: Fleet, names: Mapping[str, int], timeout: float
) -> dict[str, PlanapplyError]:
    """Wait until these nodes (name -> number of Dask processes) have joined.

    Give up on a node after `timeout` seconds, or when its VM has terminated; return these nodes, with
    their errors. Raises Stopped.
    """
    wait = _Wait(fleet, names)
    clock = fleet.clock
    deadline = clock.monotonic() + timeout
    interval = min(VM_POLL, 5 * fleet.client.limits.poll)
    next_vm_poll, pause = clock.monotonic() + interval, FIRST_POLL
    await asyncio.to_thread(fleet.find_and_record)
    while True:
        await wait.poll_scheduler()
        if not wait.waiting:
            break
        if clock.monotonic() >= next_vm_poll:
            await asyncio.to_thread(wait.poll_provider)
            next_vm_poll = clock.monotonic() + interval
        if clock.monotonic() >= deadline:
            await asyncio.to_thread(wait.fail_remaining, timeout)
        await asyncio.to_thread(clock.sleep, pause)
        pause = min(LONGEST_POLL, pause * 1.2)
    return wait.failures
