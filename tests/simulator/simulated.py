"""A world that can be stopped at any store write and any provider call, and goes on after it."""

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
    """The process died here: nothing that comes after it in the program happens."""


class SimClock:
    """Time that passes only when somebody sleeps; what the wall clock says of it may be wrong."""

    def __init__(self, seed: int, start: float = 1_000_000.0) -> None:
        self.random: random.Random = random.Random(seed)
        self.now = start
        self.clock_skew = 0.0
        """Seconds that this machine's wall clock is ahead."""

    def time(self) -> float:
        return self.now + self.clock_skew

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(0.0, seconds)

    def check(self) -> None:
        """Nobody presses Ctrl-C here; a crash is worse."""


class CloudTime:
    """The cloud's own time."""

    def __init__(self, clock: SimClock) -> None:
        self._clock = clock

    def time(self) -> float:
        return self._clock.now


class CrashPoints:
    """Counts the points at which a process can die, and makes it die at one of them."""

    def __init__(self) -> None:
        self.points_left: int | None = None
        self.points = 0
        self.is_dead = False

    def reach(self) -> None:
        self.points += 1
        if self.points_left is not None:
            self.points_left -= 1
            # No `finally` of a dead process does anything any more.
            self.is_dead = self.is_dead or self.points_left < 0
        if self.is_dead:
            raise Crash

    def run_effect(self, effect: Callable[[], T]) -> T:
        """Die before the effect, or after it with its answer lost."""
        self.reach()
        result = effect()
        self.reach()
        return result


class SimStore:
    """A store whose disk is a variable; what was written is what survives."""

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
    """A provider during whose calls the process may die, before or after they are carried out."""

    def __init__(self, cloud: FakeCloud, crash_points: CrashPoints) -> None:
        super().__init__(cloud)
        self.crash_points = crash_points

    def launch(self, request: LaunchRequest) -> LaunchResult:
        return self.crash_points.run_effect(lambda: FakeProvider.launch(self, request))

    def find(self, tags: Mapping[str, str]) -> list[VM]:
        return self.crash_points.run_effect(lambda: FakeProvider.find(self, tags))

    def terminate(self, ids: Sequence[str]) -> Sequence[str]:
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
    """The fake cloud has none."""


PLUGIN = Plugin(
    "fake", "a faulty cloud", NoSettings, connect=lambda settings: settings, security="none"
)


class SimWorkspace(Workspace):
    """The real core on a simulated disk, cloud and clock: one process, from its start to its death."""

    provider: Provider

    def plugin(self, state: State | None) -> Plugin:
        return PLUGIN

    def connect(self, state: State | None) -> ProviderClient:
        return ProviderClient(self.provider, self.clock)
