"""A cloud whose VMs are real schedulers and workers in this process, on an event loop of their own.

Cheap enough for a cluster in each test, and honest at the port: what the cluster asks is counted, and
tests can end a VM, or only what runs on it, behind its back.
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
HANDLE_ONLY = "tests.Nothing"  # a class of which nothing is started: for thousands of nodes


class Settings(Model):
    """It has none."""


@dataclass
class Cloud:
    """The truth, and the port to it."""

    limits: Limits = field(
        default_factory=lambda: Limits(
            batch=500, terminate_batch=5000, consistency_delay=0.0, poll=0.01
        )
    )
    vms: dict[str, VM] = field(default_factory=dict)
    servers: dict[str, list[Any]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    refused_names: set[str] = field(default_factory=set)
    """Nodes that can't be launched."""
    terminate_gate: threading.Event | None = None
    """Nothing ends before this."""
    refuse_terminate: bool = False
    """Nothing can be ended."""
    launched_names: list[str] = field(default_factory=list)
    """Every node that was launched, in order."""

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
        shortfall = ProviderError(ErrorKind.CAPACITY, "there is no room for it", "Wait.")
        if not launched:
            raise shortfall
        return LaunchResult(tuple(launched), shortfall)

    def find(self, tags: Mapping[str, str]) -> list[VM]:
        self.calls["find"] += 1
        return [vm for vm in self.vms.values() if tags.items() <= vm.tags.items()]

    def terminate(self, ids: Sequence[str]) -> Sequence[str]:
        self.calls["terminate"] += 1
        if self.refuse_terminate:
            raise ProviderError(ErrorKind.UNAUTHORIZED, "you may not end VMs", "Ask for it.")
        if self.terminate_gate is not None:
            assert self.terminate_gate.wait(120)
        for id in ids:
            if id in self.servers:
                self.run(self._stop(id))
            self.vms.pop(id, None)
        return ()

    # What tests do to it.

    def vm(self, name: str) -> VM:
        [vm] = [vm for vm in self.vms.values() if vm.name == name]
        return vm

    def names(self) -> list[str]:
        """The nodes whose VMs exist."""
        return sorted(str(vm.name) for vm in self.vms.values())

    def end_vm(self, name: str) -> None:
        """The VM ends, and nobody asked."""
        self.run(self._end_vm(self.vm(name).id))

    def stop_servers(self, name: str) -> None:
        """What runs on the VM ends, and the VM does not."""
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

    async def _end_vm(self, id: str) -> None:
        await self._stop(id)
        self.vms.pop(id, None)


@dataclass
class CloudWorkspace(Workspace):
    """A workspace whose provider is a `Cloud`, whatever the name."""

    cloud: Cloud = field(kw_only=True)

    def plugin(self, state: State | None) -> Plugin:
        return plugin(self.cloud)


def plugin(cloud: Cloud) -> Plugin:
    """The plug-in of one cloud."""
    return Plugin(
        name="inprocess",
        summary="real schedulers and workers in this process",
        settings=Settings,
        connect=lambda settings: cloud,
        security="none",
    )


def spec_of(workspace: Workspace) -> Spec:
    """Its spec."""
    assert workspace.spec is not None
    return workspace.spec
