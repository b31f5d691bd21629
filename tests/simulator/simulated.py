"""A simulated world, in which a process can die at any write and any provider call."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from fake_provider import FakeCloud, FakeProvider
from pydantic import BaseModel

from planapply.fleet import ProviderClient
from planapply.model.node import VM
from planapply.model.state import Resource, State
from planapply.ops.workspace import Workspace
from planapply.provider import LaunchRequest, LaunchResult, Plugin, Provider
from planapply.store import LockInfo, codec

T = TypeVar("T")


class Crash(BaseException):
    """The death of a process: the rest of the program does not run."""


class SimClock:
    """Time that passes only during a sleep; the wall clock may be wrong."""

    def __init__(self, seed: int, start: float = 1_000_000.0) -> None:
        self.random: random.Random = random.Random(seed)
        self.now = start
        self.clock_skew = 0.0
        """Seconds by which the wall clock of this machine is ahead."""

    def time(self) -> float:
        return self.now + self.clock_skew

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(0.0, seconds)

    def check(self) -> None:
        """Do nothing: there is no Ctrl-C in the simulation, and a crash is worse."""


class CloudTime:
    """The time of the cloud."""

    def __init__(self, clock: SimClock) -> None:
        self._clock = clock

    def time(self) -> float:
        return self._clock.now


class CrashPoints:
    """A counter of the points at which a process can die; it dies at one of them."""

    def __init__(self) -> None:
        self.points_left: int | None = None
        self.points = 0
        self.is_dead = False

    def reach(self) -> None:
        self.points += 1
        if self.points_left is not None:
            self.points_left -= 1
            # The `finally` blocks of a dead process do nothing.
            self.is_dead = self.is_dead or self.points_left < 0
        if self.is_dead:
            raise Crash

    def run_effect(self, effect: Callable[[], T]) -> T:
        """Die before the effect, or after it, so that its response is lost."""
        self.reach()
        result = effect()
        self.reach()
        return result


class SimStore:
    """A store whose disk is a variable, which survives the process."""

    location = "sim"

    def __init__(self, crash_points: CrashPoints) -> None:
        self.crash_points = crash_points
        self.disk: bytes | None = None
        self.serials: list[int] = []

    def read(self) -> State | None:
        return None if self.disk is None else codec.decode(self.disk, self.location)

    def write(self, state: State) -> None:
        data = codec.encode(state)

        def put() -> None:
            self.disk = data
            self.serials.append(state.serial)

        self.crash_points.run_effect(put)

    @contextmanager
    def lock(self, purpose: str, timeout: float = 0.0, **_: Any) -> Iterator[LockInfo]:
        yield LockInfo.of_this_process("0", purpose)

    def unlock(self, lock_id: str) -> LockInfo:
        raise NotImplementedError

    def lock_info(self) -> LockInfo | None:
        return None


class CrashingProvider(FakeProvider):
    """A provider during whose calls the process may die, before or after the effect."""

    def __init__(self, cloud: FakeCloud, crash_points: CrashPoints) -> None:
        super().__init__(cloud)
        self.crash_points = crash_points

    def launch(self, request: LaunchRequest) -> LaunchResult:
        return self.crash_points.run_effect(lambda: FakeProvider.launch(self, request))

    def find(self, tags: Mapping[str, str]) -> list[VM]:
        return self.crash_points.run_effect(lambda: FakeProvider.find(self, tags))

    def lookup(self, ids: Sequence[str]) -> Mapping[str, VM | None]:
        return self.crash_points.run_effect(lambda: FakeProvider.lookup(self, ids))

    def terminate(self, ids: Sequence[str]) -> Sequence[str]:
        assert not self.cloud.spoofed.intersection(ids), "a VM of another user is terminated"
        return self.crash_points.run_effect(lambda: FakeProvider.terminate(self, ids))

    def retag(self, ids: Sequence[str], tags: Mapping[str, str], removed: Sequence[str]) -> None:
        self.crash_points.run_effect(lambda: FakeProvider.retag(self, ids, tags, removed))

    def prepare(self, name: str, resource: Resource, tags: Mapping[str, str]) -> Resource:
        return self.crash_points.run_effect(
            lambda: FakeProvider.prepare(self, name, resource, tags)
        )

    def find_resources(self, tags: Mapping[str, str]) -> dict[str, Resource]:
        return self.crash_points.run_effect(lambda: FakeProvider.find_resources(self, tags))

    def cleanup(self, resource: Resource) -> None:
        self.crash_points.run_effect(lambda: FakeProvider.cleanup(self, resource))


class NoSettings(BaseModel):
    """The settings of the fake cloud, which has none."""


PLUGIN = Plugin(
    "fake", "a faulty cloud", NoSettings, connect=lambda settings: settings, security="none"
)


class SimWorkspace(Workspace):
    """The real core with a simulated disk, cloud, and clock: one process, from its start to its death."""

    provider: Provider

    def plugin(self, state: State | None) -> Plugin:
        return PLUGIN

    def connect(self, state: State | None) -> ProviderClient:
        return ProviderClient(self.provider, self.clock)
