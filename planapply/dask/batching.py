"""Requests of single handles, collected into batches for the fleet."""

import asyncio
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from planapply.fleet import Fleet, LaunchSpec, error_code
from planapply.model.diagnostics import PlanapplyError
from planapply.model.names import node_name
from planapply.model.state import NodeRecord
from planapply.provider import ErrorKind, ProviderError

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
Outcome = NodeRecord | ProviderError


@dataclass
class _Batch:
    """Requests of one turn of the event loop, each with the future that gets its result."""

    specs: dict[str, LaunchSpec] = field(default_factory=dict)
    """Nodes to launch, by name, as the futures in `launches`."""
    launches: dict[str, asyncio.Future[NodeRecord]] = field(default_factory=dict)
    terminations: dict[tuple[str, str], asyncio.Future[None]] = field(default_factory=dict)
    existence_checks: dict[str, asyncio.Future[bool]] = field(default_factory=dict)

    def futures(self) -> list[asyncio.Future[Any]]:
        """Return the futures of all requests."""
        return [
            *self.launches.values(),
            *self.terminations.values(),
            *self.existence_checks.values(),
        ]


class RequestQueue:
    """Collects the requests of one turn of the event loop and passes them to the fleet at once.

    `fleet` opens the cluster's fleet, with its state locked, for one batch, in a thread. An apply
    passes the fleet that it holds open; a live cluster locks the state, reads it, and releases it per
    batch.
    """

    def __init__(self, fleet: Callable[[], AbstractContextManager[Fleet]]) -> None:
        self._fleet = fleet
        self.next_index: dict[str, int] = {}
        """The first index of each group that `next_name` has not returned."""
        self._batch = _Batch()
        self._is_scheduled = False
        self._session_lock = asyncio.Lock()  # one batch at a time, because each locks the state

    def next_name(self, group: str) -> str:
        """Return the name of another node of a group; no name is returned twice."""
        index = self.next_index.get(group, 0)
        self.next_index[group] = index + 1
        return node_name(group, index)

    async def launch(self, spec: LaunchSpec) -> NodeRecord:
        """Launch a node and return its record; raises NodeFailed with the provider's error."""
        self._batch.specs[spec.name] = spec
        return await self._enqueue(self._batch.launches, spec.name)

    async def terminate(self, name: str, vm: str) -> None:
        """Terminate a node's VM and wait until it is gone.

        Do nothing if the state does not have the node, or has it with another VM.
        """
        await self._enqueue(self._batch.terminations, (name, vm))

    async def exists(self, name: str) -> bool:
        """Return whether the node is in the state and its VM exists or is too new to be visible."""
        return await self._enqueue(self._batch.existence_checks, name)

    def _enqueue(self, requests: dict[K, asyncio.Future[T]], request: K) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        if request not in requests:
            requests[request] = loop.create_future()
        if not self._is_scheduled:
            self._is_scheduled = True
            # In the next turn: by then, all handles that are awaited together are in the batch.
            loop.call_soon(lambda: loop.create_task(self._flush()))
        return requests[request]

    async def _flush(self) -> None:
        self._is_scheduled = False
        batch, self._batch = self._batch, _Batch()
        try:
            async with self._session_lock:
                outcomes, existing = await asyncio.to_thread(self._run, batch)
            self._set_results(batch, outcomes, existing)
        except BaseException as error:  # everyone who waits must get it, whatever it is
            for future in batch.futures():
                if not future.done():
                    future.set_exception(error)

    def _set_results(self, batch: _Batch, outcomes: dict[str, Outcome], existing: set[str]) -> None:
        for name, launch in batch.launches.items():
            if launch.done():
                continue
            outcome = outcomes[name]
            if isinstance(outcome, NodeRecord):
                launch.set_result(outcome)
            else:
                launch.set_exception(NodeFailed(name, outcome))
        for termination in batch.terminations.values():
            if not termination.done():
                termination.set_result(None)
        for name, check in batch.existence_checks.items():
            if not check.done():
                check.set_result(name in existing)

    def _run(self, batch: _Batch) -> tuple[dict[str, Outcome], set[str]]:
        checks, specs = set(batch.existence_checks), list(batch.specs.values())
        with self._fleet() as fleet:
            existing = _find_existing(fleet, checks) if checks else set()
            known = fleet.journal.read(lambda s: {(name, r.vm) for name, r in s.nodes.items()})
            fleet.terminate(name for name, vm in batch.terminations if (name, vm) in known)
            return _launch(fleet, specs) if specs else {}, existing


def _find_existing(fleet: Fleet, names: set[str]) -> set[str]:
    shown = {vm.id for vm in fleet.find_and_record() if vm.is_active}
    visible_since = fleet.clock.time() - fleet.client.limits.consistency_delay
    records = fleet.journal.read(lambda state: dict(state.nodes))
    return {
        name
        for name in names & records.keys()
        if records[name].vm in shown or (records[name].launched_at or 0.0) > visible_since
    }


def _launch(fleet: Fleet, specs: list[LaunchSpec]) -> dict[str, Outcome]:
    records = fleet.journal.read(lambda state: dict(state.nodes))
    outcomes: dict[str, Outcome] = {
        # A second VM with this name would replace the first one in the state.
        spec.name: ProviderError(
            ErrorKind.REJECTED,
            f"the node already exists, as VM {records[spec.name].vm}",
            "Adopt a running cluster with `planapply.Cluster.from_spec`, or destroy it with "
            "`planapply destroy`.",
        )
        for spec in specs
        if spec.name in records
    }
    return {**fleet.launch([spec for spec in specs if spec.name not in outcomes]), **outcomes}


class NodeFailed(PlanapplyError):
    """A node for which the provider failed, with the provider's error."""

    def __init__(self, name: str, error: ProviderError) -> None:
        self.name, self.kind = name, error.kind
        super().__init__(f"{name}: {error.summary}", error.detail, code=error_code(error))
