"""A cloud in memory that fails as real clouds do, repeatably for the same seed, clock, and calls.

`FakeCloud` is the truth, which tests may look at; `FakeProvider` is what planapply gets to see.
"""

import random
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Protocol, TypeVar

from planapply.model.end_reason import EndReason
from planapply.model.node import TAG_PREFIX, VM, NodeConfig
from planapply.model.plan import FieldChange, ResourceDrift
from planapply.model.state import Choice, Resource
from planapply.provider import (
    ErrorKind,
    LaunchRequest,
    LaunchResult,
    Limits,
    ProviderError,
)

T = TypeVar("T")


class TimeSource(Protocol):
    """The part of a clock that the cloud needs."""

    def time(self) -> float: ...


@dataclass
class Faults:
    """Probabilities per call, from 0 to 1, and maximum times in seconds; by default there are no faults."""

    throttled: float = 0.0
    """The call has no effect and reports it: throttled or unavailable."""
    lost_before: float = 0.0
    """The response is lost; the call had no effect."""
    lost_after: float = 0.0
    """The response is lost; the call had its effect."""
    partial: float = 0.0
    """A launch creates fewer VMs than requested, or none."""
    reclaimed: float = 0.0
    """Before the call, the cloud terminates one VM."""
    lag: float = 0.0
    """Maximum age of what a call sees; the age differs per call, so VMs appear and disappear again."""
    termination_delay: float = 0.0
    """Time that a VM is `stopping`."""


@dataclass
class Machine:
    """The true state of one VM."""

    vm: VM
    launched_at: float
    stopping_at: float = inf
    ended_at: float = inf
    stopped_at: float = inf

    def exists(self, at: float) -> bool:
        return self.launched_at <= at < self.ended_at

    def vm_at(self, at: float) -> VM:
        status = "stopping" if self.stopping_at <= at else "running"
        if self.stopped_at <= at < self.stopping_at:
            status = "stopped"
        return self.vm.model_copy(update={"status": status})


@dataclass
class FakeCloud:
    """One account; `capacity` is how many more VMs of a size there can be (default: any number)."""

    clock: TimeSource
    seed: int = 0
    faults: Faults = field(default_factory=Faults)
    limits: Limits = field(default_factory=lambda: Limits(batch=10, consistency_delay=30.0))
    choices: list[Choice] = field(default_factory=lambda: [Choice()])
    keeps_token: bool = True
    """Whether the cloud reports the token of a VM's launch, which no tag can change."""
    capacity: dict[str | None, int] = field(default_factory=dict)
    """Remaining VMs by size."""
    required_resources: dict[str, Resource] = field(default_factory=dict)
    machines: dict[str, Machine] = field(default_factory=dict)
    resources: dict[str, tuple[str, Resource, dict[str, str]]] = field(default_factory=dict)
    """Name, resource, and tags by id."""
    foreign_rules: list[str] = field(default_factory=list)
    """Rules that another user has added to a resource."""
    spoofed: set[str] = field(default_factory=set)
    """IDs of the VMs of another user."""
    end_reasons: dict[str, EndReason] = field(default_factory=dict)
    """Why VMs have ended, by id; the cloud has forgotten the others."""
    consoles: dict[str, str] = field(default_factory=dict)
    """The output of VMs by ID."""
    calls: Counter[str] = field(default_factory=Counter)
    injected: Counter[str] = field(default_factory=Counter)
    """Number of injected faults by kind."""

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.lock = threading.Lock()
        self._answers: dict[str, tuple[LaunchRequest, list[str], ProviderError | None]] = {}
        self._script: dict[str, deque[tuple[ErrorKind, bool]]] = {}

    def fail_next(self, call: str, *kinds: ErrorKind, done: bool = False) -> None:
        """Make the next calls of this name fail, one for each kind; with `done`, after their effect."""
        self._script.setdefault(call, deque()).extend((kind, done) for kind in kinds)

    def live_vms(self) -> list[VM]:
        """Return the VMs that really exist now, and cost money."""
        now = self.clock.time()
        return [machine.vm_at(now) for machine in self.machines.values() if machine.exists(now)]

    def spoof(self, **tags: str) -> VM:
        """Add a VM of another user, whose `tags` (with `_` for `:`) claim that planapply launched it."""
        number, now = len(self.machines), self.clock.time()
        vm = VM(
            id=f"i-{number:04}",
            tags={key.replace("_", ":"): value for key, value in tags.items()},
            private_address="192.0.2.66",
            launched_at=now,
            token="" if self.keeps_token else None,
        )
        self.machines[vm.id] = Machine(vm, now)
        self.spoofed.add(vm.id)
        return vm

    def end_vm(self, id: str, after: float = 0.0) -> None:
        """Terminate a VM."""
        machine, now = self.machines[id], self.clock.time()
        machine.stopping_at = min(machine.stopping_at, now)
        machine.ended_at = min(machine.ended_at, now + after)

    def stop_vm(self, id: str) -> None:
        """Power off a VM, which this cloud keeps until it is terminated."""
        self.machines[id].stopped_at = self.clock.time()

    def run_call(self, name: str, effect: Callable[[], T]) -> T:
        """Run a call with the faults of the cloud around it."""
        with self.lock:
            self.calls[name] += 1
            alive = self.live_vms()
            if alive and self._happens(self.faults.reclaimed):
                self.injected["reclaimed"] += 1
                self.end_vm(self.random.choice(alive).id)
            kind, done = None, False
            if self._script.get(name):
                kind, done = self._script[name].popleft()
            elif self._happens(self.faults.throttled):
                kind = self.random.choice([ErrorKind.THROTTLED, ErrorKind.UNAVAILABLE])
            elif self._happens(self.faults.lost_before):
                kind = ErrorKind.UNKNOWN
            elif self._happens(self.faults.lost_after):
                kind, done = ErrorKind.UNKNOWN, True
            result = effect() if kind is None or done else None
            if kind is not None:
                self.injected[f"{kind.value}{', done' if done else ''}"] += 1
                raise ProviderError(kind, f"{name}: {kind.value}")
            assert result is not None
            return result

    def visible_machines(self) -> list[Machine]:
        """Return what exists, as old as this call sees it."""
        at = self.clock.time() - self.random.uniform(0.0, self.faults.lag)
        return [replace(m, vm=m.vm_at(at)) for m in self.machines.values() if m.exists(at)]

    def launch(self, request: LaunchRequest) -> LaunchResult:
        """Launch VMs, without faults around it."""
        if self.limits.tokens and request.token in self._answers:
            return self._repeat_launch(request)
        requested = len(request.names)
        size = request.choice.size
        count = min(requested, self.capacity.get(size, requested))
        if self._happens(self.faults.partial):
            self.injected["partial"] += 1
            count = self.random.randrange(count + 1)
        shortfall = None
        if count < requested:
            shortfall = ProviderError(
                ErrorKind.CAPACITY, f"{requested - count} VMs too many: {size}"
            )
        if count == 0 and shortfall:
            raise shortfall
        if size in self.capacity:
            self.capacity[size] -= count
        ids = [self._start(request, index) for index in range(count)]
        self._answers[request.token] = (request, ids, shortfall)
        return LaunchResult(tuple(self.machines[id].vm for id in ids), shortfall)

    def _repeat_launch(self, request: LaunchRequest) -> LaunchResult:
        earlier, ids, shortfall = self._answers[request.token]
        if _parameters(earlier) != _parameters(request):
            raise ProviderError(ErrorKind.TOKEN_SPENT, "the token was used for another request")
        now = self.clock.time()
        vms = [m.vm_at(now) for id in ids if (m := self.machines[id]).exists(now)]
        if len(vms) < len(ids):
            shortfall = ProviderError(ErrorKind.TOKEN_SPENT, "VMs of this token have ended")
        if not vms and shortfall:
            raise shortfall
        return LaunchResult(tuple(vms), shortfall)

    def _start(self, request: LaunchRequest, index: int) -> str:
        number, now = len(self.machines), self.clock.time()
        vm = VM(
            id=f"i-{number:04}",
            tags=dict(request.tags),
            index=index,
            private_address=f"127.0.{number // 250}.{number % 250 + 1}",
            port=1,  # a connection is refused immediately, and stays on this machine
            size=request.choice.size,
            zone=request.choice.zone,
            image=request.config.image,
            spot=request.choice.spot,
            launched_at=now,
            token=request.token if self.keeps_token else None,
        )
        self.machines[vm.id] = Machine(vm, now)
        return vm.id

    def _happens(self, probability: float) -> bool:
        # Draw no random number for a fault that is off, so that turning one on does not change others.
        return probability > 0 and self.random.random() < probability


def _parameters(request: LaunchRequest) -> tuple[object, ...]:
    """Return what must be the same in a repeated request."""
    sent = (request.user_data, [(boot.env, boot.secret_env) for boot in request.boots])
    return request.names, request.config, request.choice, sent


class FakeProvider:
    """Provider with every capability that changes what exists."""

    def __init__(self, cloud: FakeCloud) -> None:
        self.cloud = cloud

    @property
    def limits(self) -> Limits:
        return self.cloud.limits

    def identity(self) -> dict[str, str]:
        return {"account": "fake"}

    def alternatives(self, config: NodeConfig) -> Sequence[Choice]:
        spot = config.spot is True
        return [Choice(size=size, spot=spot) for size in config.size] or self.cloud.choices

    def launch(self, request: LaunchRequest) -> LaunchResult:
        assert len(request.names) <= self.limits.batch
        return self.cloud.run_call("launch", lambda: self.cloud.launch(request))

    def find(self, tags: Mapping[str, str]) -> list[VM]:
        return self.cloud.run_call(
            "find",
            lambda: [
                m.vm for m in self.cloud.visible_machines() if tags.items() <= m.vm.tags.items()
            ],
        )

    def lookup(self, ids: Sequence[str]) -> Mapping[str, VM | None]:
        def effect() -> dict[str, VM | None]:
            at = self.cloud.clock.time() - self.cloud.random.uniform(0.0, self.cloud.faults.lag)
            known = [m for m in self.cloud.machines.values() if m.launched_at <= at]
            return {m.vm.id: m.vm_at(at) if m.exists(at) else None for m in known if m.vm.id in ids}

        return self.cloud.run_call("lookup", effect)

    def end_reasons(self, ids: Sequence[str]) -> Mapping[str, EndReason]:
        known = self.cloud.end_reasons
        return self.cloud.run_call(
            "end_reasons", lambda: {id: known[id] for id in ids if id in known}
        )

    def terminate(self, ids: Sequence[str]) -> Sequence[str]:
        def effect() -> list[str]:
            known = {machine.vm.id for machine in self.cloud.visible_machines()}
            for id in known.intersection(ids):
                self.cloud.end_vm(
                    id, self.cloud.random.uniform(0.0, self.cloud.faults.termination_delay)
                )
            return [id for id in ids if id not in known]

        return self.cloud.run_call("terminate", effect)

    def retag(self, ids: Sequence[str], tags: Mapping[str, str], removed: Sequence[str]) -> None:
        def effect() -> bool:
            for id in ids:
                machine = self.cloud.machines[id]
                kept = {k: v for k, v in machine.vm.tags.items() if k not in removed}
                machine.vm = machine.vm.model_copy(update={"tags": kept | dict(tags)})
            return True

        self.cloud.run_call("retag", effect)

    def list_vms(self) -> list[VM]:
        return self.find({})

    def required_resources(self, cluster: str, config: NodeConfig) -> dict[str, Resource]:
        return dict(self.cloud.required_resources)

    def prepare(self, name: str, resource: Resource, tags: Mapping[str, str]) -> Resource:
        def effect() -> Resource:
            self.cloud.foreign_rules.clear()
            own_tags = {key: tags[key] for key in tags if key.startswith(TAG_PREFIX)}
            for known, made, resource_tags in self.cloud.resources.values():
                if known == name and own_tags.items() <= resource_tags.items():
                    return made
            made = resource.model_copy(update={"id": f"r-{self.cloud.calls['prepare']:04}"})
            self.cloud.resources[str(made.id)] = (name, made, dict(tags))
            return made

        return self.cloud.run_call("prepare", effect)

    def find_resources(self, tags: Mapping[str, str]) -> dict[str, Resource]:
        return self.cloud.run_call(
            "find_resources",
            lambda: {
                name: made
                for name, made, resource_tags in self.cloud.resources.values()
                if tags.items() <= resource_tags.items()
            },
        )

    def inspect(self, resource: Resource, tags: Mapping[str, str]) -> ResourceDrift | None:
        def effect() -> list[ResourceDrift]:
            known = self.cloud.resources.get(str(resource.id))
            if known is None:
                return [ResourceDrift(exists=False)]
            fields = [
                FieldChange(
                    path=f"rules.{rule}", before="open", after="closed", forces_replacement=False
                )
                for rule in self.cloud.foreign_rules
            ]
            return [ResourceDrift(fields=tuple(fields))] if fields else []

        return next(iter(self.cloud.run_call("inspect", effect)), None)

    def cleanup(self, resource: Resource) -> None:
        def effect() -> bool:
            _, _, tags = self.cloud.resources.get(str(resource.id), ("", resource, None))
            own = [vm for vm in self.cloud.live_vms() if vm.id not in self.cloud.spoofed]
            if tags and any(tags.items() <= vm.tags.items() for vm in own):
                raise ProviderError(ErrorKind.UNAVAILABLE, f"{resource.id} is in use")
            self.cloud.resources.pop(str(resource.id), None)
            return True

        self.cloud.run_call("cleanup", effect)
