"""Handles ask one by one; the provider is asked in batches."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from planapply.fleet import Fleet, LaunchSpec
from planapply.model.diagnostics import PlanapplyError
from planapply.model.state import NodeRecord
from planapply.provider import ErrorKind, ProviderError


class RequestQueue:
    """Collects what handles ask in one turn of the event loop, and asks the fleet once.

    `fleet` opens the cluster's fleet for one batch, with its state locked: an apply holds one open
    and
    gives that; a live cluster locks, reads the state again, and unlocks, per batch. It is entered
    in a
    thread.
    """

    def __init__(self, fleet: Callable[[], AbstractContextManager[Fleet]]) -> None:
        self._fleet = fleet
        self._launches: dict[str, tuple[LaunchSpec, asyncio.Future[NodeRecord]]] = {}
        self._terminations: dict[tuple[str, str], asyncio.Future[None]] = {}
        self._existence_checks: dict[str, asyncio.Future[bool]] = {}
        self._scheduled = False
        self._session_lock = asyncio.Lock()  # one session at a time: it locks the state

    async def launch(self, spec: LaunchSpec) -> NodeRecord:
        """The node's record once it is launched; raises NodeFailed in the provider's words."""
        future: asyncio.Future[NodeRecord] = asyncio.get_running_loop().create_future()
        self._launches[spec.name] = (spec, future)
        self._schedule()
        return await future

    async def terminate(self, name: str, vm: str) -> None:
        """Returns when the node's VM is confirmed gone; one that is not in the state is gone.

        A node of this name that is another VM is not touched.
        """
        termination = (name, vm)
        future = self._terminations.get(termination)
        if future is None:
            future = self._terminations[termination] = asyncio.get_running_loop().create_future()
            self._schedule()
        await future

    async def exists(self, name: str) -> bool:
        """Whether the node's VM is there, or too young to be seen; one in no state is not."""
        future = self._existence_checks.get(name)
        if future is None:
            future = self._existence_checks[name] = asyncio.get_running_loop().create_future()
            self._schedule()
        return await future

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            loop = asyncio.get_running_loop()
            # The next turn: all handles that are awaited together have asked by then.
            loop.call_soon(lambda: loop.create_task(self._flush()))

    async def _flush(self) -> None:
        self._scheduled = False
        launches, self._launches = self._launches, {}
        terminations, self._terminations = self._terminations, {}
        existence_checks, self._existence_checks = self._existence_checks, {}
        try:
            async with self._session_lock:
                outcomes, existing = await asyncio.to_thread(
                    self._run,
                    list(terminations),
                    [spec for spec, _ in launches.values()],
                    set(existence_checks),
                )
        except BaseException as error:  # whatever it is, those who wait must hear of it
            futures: list[asyncio.Future[Any]] = [
                *terminations.values(),
                *existence_checks.values(),
            ]
            futures += [future for _, future in launches.values()]
            for future in futures:
                if not future.done():
                    future.set_exception(error)
            return
        for termination in terminations.values():
            if not termination.done():
                termination.set_result(None)
        for name, check in existence_checks.items():
            if not check.done():
                check.set_result(name in existing)
        for name, (_, future) in launches.items():
            if future.done():
                continue
            outcome = outcomes[name]
            if isinstance(outcome, NodeRecord):
                future.set_result(outcome)
            else:
                future.set_exception(NodeFailed(name, outcome))

    def _run(
        self,
        terminations: list[tuple[str, str]],
        launches: list[LaunchSpec],
        existence_checks: set[str],
    ) -> tuple[dict[str, NodeRecord | ProviderError], set[str]]:
        with self._fleet() as fleet:
            existing = _find_existing(fleet, existence_checks) if existence_checks else set()
            known = fleet.journal.read(lambda s: {(name, r.vm) for name, r in s.nodes.items()})
            fleet.terminate(name for name, vm in terminations if (name, vm) in known)
            return _launch(fleet, launches) if launches else {}, existing


def _find_existing(fleet: Fleet, names: set[str]) -> set[str]:
    shown = {vm.id for vm in fleet.find_and_record() if vm.is_active}
    visible_since = fleet.clock.time() - fleet.client.limits.consistency_delay
    records = fleet.journal.read(lambda state: dict(state.nodes))
    return {
        name
        for name in names & records.keys()
        if records[name].vm in shown or (records[name].launched_at or 0.0) > visible_since
    }


def _launch(fleet: Fleet, launches: list[LaunchSpec]) -> dict[str, NodeRecord | ProviderError]:
    records = fleet.journal.read(lambda state: dict(state.nodes))
    outcomes: dict[str, NodeRecord | ProviderError] = {
        # A second VM of this name would push the first one out of the state.
        spec.name: ProviderError(
            ErrorKind.REJECTED,
            f"it is there already, as VM {records[spec.name].vm}",
            "`planapply.Cluster.from_spec` adopts a cluster that runs; `planapply destroy` ends it.",
        )
        for spec in launches
        if spec.name in records
    }
    return {**fleet.launch([w for w in launches if w.name not in outcomes]), **outcomes}


class NodeFailed(PlanapplyError):
    """One node that could not be launched, in the provider's words; the others are not touched."""

    def __init__(self, name: str, error: ProviderError) -> None:
        self.name, self.kind = name, error.kind
        super().__init__(f"{name}: {error.summary}", error.detail)
