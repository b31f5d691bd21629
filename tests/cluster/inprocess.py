"""A cloud whose VMs are real schedulers and workers in this process, on an event loop of their own.

It is fast enough for a cluster in each test. It implements the provider port, counts the calls, and
lets tests remove a VM, or stop only the servers on it, behind the cluster's back.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from distributed import Scheduler, Worker

from planapply.model.base import Model
from planapply.model.names import SCHEDULER, worker_names
from planapply.model.node import VM, NodeConfig
from planapply.model.spec import Spec
from planapply.model.state import Choice, State
from planapply.ops.workspace import Workspace
from planapply.provider import (
    ErrorKind,
    LaunchRequest,
    LaunchResult,
    Limits,
    Plugin,
    ProviderError,
)

T = TypeVar("T")
HANDLE_ONLY = "tests.Nothing"  # a class for which no server is started: for thousands of nodes


class Settings(Model):
    """The settings of this provider: none."""


@dataclass
class Cloud:
    """The VMs that exist, and the provider port to them."""

    limits: Limits = field(
        default_factory=lambda: Limits(
            batch=500, terminate_batch=5000, consistency_delay=0.0, poll=0.01
        )
    )
    vms: dict[str, VM] = field(default_factory=dict)
    servers: dict[str, list[Any]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    refused_names: set[str] = field(default_factory=set)
    """Nodes whose launch fails."""
    terminate_gate: threading.Event | None = None
    """No VM terminates before this event."""
    refuse_terminate: bool = False
    """Whether each request to terminate fails."""
    launched_names: list[str] = field(default_factory=list)
    """The launched nodes, in order."""

    def __post_init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="cloud")
        self.thread.start()

    # The port.

    def identity(self) -> dict[str, str]:
        return {"account": "in process"}

    def alternatives(self, config: NodeConfig) -> Sequence[Choice]:
        return [Choice()]

    def launch(self, request: LaunchRequest) -> LaunchResult:
        self.calls["launch"] += 1
        launched = []
        for index, name in enumerate(request.names):
            if name in self.refused_names:
                continue
            vm = VM(
                id=f"vm-{request.token}-{index}",
                tags=dict(request.tags),
                index=index,
                private_address="127.0.0.1",
            )
            self.launched_names.append(name)
            if request.config.cls == HANDLE_ONLY:
                self.vms[vm.id] = vm
            else:
                vm = self.run(self._start(vm, name, request))
            launched.append(vm)
        if len(launched) == len(request.names):
            return LaunchResult(tuple(launched))
        shortfall = ProviderError(ErrorKind.CAPACITY, "no capacity is left", "Wait.")
        if not launched:
            raise shortfall
        return LaunchResult(tuple(launched), shortfall)

    def find(self, tags: Mapping[str, str]) -> list[VM]:
        self.calls["find"] += 1
        return [vm for vm in self.vms.values() if tags.items() <= vm.tags.items()]

    def terminate(self, ids: Sequence[str]) -> Sequence[str]:
        self.calls["terminate"] += 1
        if self.refuse_terminate:
            raise ProviderError(
                ErrorKind.UNAUTHORIZED, "terminating VMs is not permitted", "Request it."
            )
        if self.terminate_gate is not None:
            assert self.terminate_gate.wait(120)
        for id in ids:
            if id in self.servers:
                self.run(self._stop(id))
            self.vms.pop(id, None)
        return ()

    # For tests.

    def vm(self, name: str) -> VM:
        [vm] = [vm for vm in self.vms.values() if vm.name == name]
        return vm

    def names(self) -> list[str]:
        """Return the nodes whose VMs exist, sorted."""
        return sorted(str(vm.name) for vm in self.vms.values())

    def remove_vm(self, name: str) -> None:
        """Remove the VM of a node, without a request."""
        self.run(self._remove_vm(self.vm(name).id))

    def stop_servers(self, name: str) -> None:
        """Stop the servers on the VM of a node, but not the VM."""
        self.run(self._stop(self.vm(name).id))

    @property
    def scheduler(self) -> Scheduler:
        [scheduler] = self.servers[self.vm(SCHEDULER).id]
        assert isinstance(scheduler, Scheduler)
        return scheduler

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(120)

    def close(self) -> None:
        for vm in sorted(self.vms.values(), key=lambda vm: vm.name == SCHEDULER):
            self.run(self._stop(vm.id))
        self.run(self.loop.shutdown_default_executor())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    async def _start(self, vm: VM, name: str, request: LaunchRequest) -> VM:
        config = request.config
        if name == SCHEDULER:
            scheduler = await Scheduler(host="127.0.0.1", port=0, dashboard_address=":0")
            self.servers[vm.id] = [scheduler]
            vm = vm.model_copy(update={"port": int(scheduler.address.rpartition(":")[2])})
        else:
            argv = request.boots[request.names.index(name)].argv
            address = next(text for text in argv if text.startswith("tcp://"))
            workers = [
                Worker(address, name=worker_name, **{"nthreads": 1, **config.options})
                for worker_name in worker_names(name, config.processes)
            ]
            self.servers[vm.id] = list(await asyncio.gather(*workers))
        self.vms[vm.id] = vm
        return vm

    async def _stop(self, id: str) -> None:
        servers = self.servers.pop(id, [])
        await asyncio.gather(*(server.close() for server in servers))

    async def _remove_vm(self, id: str) -> None:
        self.vms.pop(id, None)  # first: a cluster that loses the servers asks for the VM
        await self._stop(id)


@dataclass
class CloudWorkspace(Workspace):
    """A workspace whose provider is always a `Cloud`."""

    cloud: Cloud = field(kw_only=True)

    def plugin(self, state: State | None) -> Plugin:
        return plugin(self.cloud)


def plugin(cloud: Cloud) -> Plugin:
    """Return the plug-in of one cloud."""
    return Plugin(
        name="inprocess",
        summary="real schedulers and workers in this process",
        settings=Settings,
        connect=lambda settings: cloud,
        security="none",
        costs_money=False,
    )


def spec_of(workspace: Workspace) -> Spec:
    """Return the spec of a workspace."""
    assert workspace.spec is not None
    return workspace.spec
