"""Waiting until what was launched has joined."""

import asyncio
from collections.abc import Mapping
from typing import Any

from planapply.dask.scheduler import has_joined, introduce, joined_names, scheduler_rpc
from planapply.fleet import Fleet
from planapply.model.diagnostics import PlanapplyError
from planapply.model.endpoint import endpoint, located
from planapply.model.event import Event
from planapply.model.names import SCHEDULER
from planapply.model.state import State

LOOK = 0.25  # seconds between two looks at the scheduler, at first
SLOWEST_LOOK = 2.0
ANSWER = 30.0  # seconds for one answer of a scheduler, which may hang
LINES = 6  # of what a failed node printed
ENDED = 10.0  # most seconds between two looks whether a VM has ended


class NotJoined(PlanapplyError):
    """One node that was launched and is not part of the Dask cluster."""


class _Wait:
    """What one wait has seen so far."""

    def __init__(self, fleet: Fleet, names: Mapping[str, int]) -> None:
        self.fleet = fleet
        self.waiting = dict(names)
        self.failures: dict[str, PlanapplyError] = {}
        self.reached = False
        self.seen: set[str] = set()
        self.missing: set[str] = set()
        """VMs that were shown, and that the last look did not show."""

    async def ask_scheduler(self) -> None:
        identity = await self._identity()
        if identity is None:
            return
        present = joined_names(identity)
        joined = [
            name
            for name, processes in self.waiting.items()
            if name == SCHEDULER or has_joined(name, processes, present)
        ]
        if not self.reached or joined:
            await asyncio.to_thread(self._record, joined, identity["services"].get("dashboard"))
        self.reached = True
        for name in joined:
            del self.waiting[name]
        if joined:
            self.fleet.tell(Event(event="joined", names=tuple(joined)))

    async def _identity(self) -> dict[str, Any] | None:
        cluster, tls, where = self.fleet.journal.read(
            lambda state: (state.cluster, state.tls, located(state))
        )
        if where is None:
            return None
        try:
            async with asyncio.timeout(ANSWER), scheduler_rpc(where, tls) as remote:
                if not self.reached:
                    await introduce(remote, cluster)
                identity: dict[str, Any] = await remote.identity()
                return identity
        except (OSError, TimeoutError):
            return None

    def _record(self, joined: list[str], dashboard: int | None) -> None:
        def record(state: State) -> None:
            for name in joined:
                state.nodes[name].status = "joined"
            scheduler = state.nodes[SCHEDULER]
            config = state.configs[scheduler.config]
            shown = dashboard if config.options.get("dashboard", True) else None
            state.endpoint = endpoint(scheduler, config, shown)

        self.fleet.journal.update(record)

    def ask_provider(self) -> None:
        """Give up on nodes whose VM has ended, and on workers whose scheduler has."""
        found = self.fleet.look()
        shown = {vm.id for vm in found if vm.runs}
        now, settle = self.fleet.clock.time(), self.fleet.provider.limits.settle
        records = self.fleet.journal.read(lambda state: dict(state.nodes))
        # One look may be stale: what was shown must be missing twice, what never was may be too young.
        known = {vm.id for vm in found} | self.missing
        ended = {
            name
            for name in {*self.waiting, SCHEDULER}
            if (record := records.get(name)) is None
            or (record.vm not in shown and (record.vm in known or record.must_show(now, settle)))
        }
        self.missing = self.seen - shown
        self.seen |= shown
        for name in [n for n in self.waiting if n in ended]:
            self._give_up(name, "ended before it joined")
        if SCHEDULER in ended:
            for name in list(self.waiting):
                self._give_up(name, "can't join: the scheduler has ended", console=False)

    def time_out(self, seconds: float) -> None:
        why = f"did not join within {seconds:g} s"
        if not self.reached:
            why += "; the scheduler could not be reached from here"
        for name in list(self.waiting):
            self._give_up(name, why)

    def _give_up(self, name: str, why: str, *, console: bool = True) -> None:
        del self.waiting[name]
        output = causes(self.fleet.console(name)) if console else ""
        detail = f"{output}\n`planapply logs NODE` shows all that it printed." if output else ""
        self.failures[name] = NotJoined(f"{name} {why}", detail)
        self.fleet.tell(Event(event="failed", names=(name,), message=why))


def causes(output: str) -> str:
    """The last few lines of what a node printed, without the frames of tracebacks."""
    kept: list[str] = []
    inside = False
    for line in output.splitlines():
        if line.startswith("Traceback (most recent call last)"):
            inside = True
        elif not inside or not line.startswith((" ", "\t")):
            inside = False
            if line.strip() and not line.startswith(("The above exception", "During handling")):
                kept.append(line)
    return "\n".join(kept[-LINES:])


async def await_joins(
    fleet: Fleet, names: Mapping[str, int], timeout: float
) -> dict[str, PlanapplyError]:
    """Wait until these nodes (name -> Dask processes) are part of the cluster.

    Gives those that are not, with why, after `timeout` seconds or when their VM has ended. Raises
    Stopped.
    """
    wait = _Wait(fleet, names)
    clock = fleet.clock
    deadline = clock.monotonic() + timeout
    every = min(ENDED, 5 * fleet.provider.limits.poll)
    look, pause = clock.monotonic() + every, LOOK
    await asyncio.to_thread(fleet.look)
    while True:
        await wait.ask_scheduler()
        if not wait.waiting:
            break
        if clock.monotonic() >= look:
            await asyncio.to_thread(wait.ask_provider)
            look = clock.monotonic() + every
        if clock.monotonic() >= deadline:
            await asyncio.to_thread(wait.time_out, timeout)
        await asyncio.to_thread(clock.sleep, pause)
        pause = min(SLOWEST_LOOK, pause * 1.2)
    return wait.failures
