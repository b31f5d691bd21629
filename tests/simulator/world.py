"""A world that can be stopped at any store write and any provider call, and goes on after it."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from planapply.model.node import VM, NodeConfig
from planapply.model.state import Choice, State
from planapply.provider import LaunchRequest, LaunchResult, Limits, Provider
from planapply.store import LockInfo, codec

T = TypeVar("T")


class Crash(BaseException):
    """The process died here: nothing that comes after it in the program happens."""


class SimClock:
    """Time that passes only when somebody sleeps."""

    def __init__(self, seed: int, start: float = 1_000_000.0) -> None:
        self.random: random.Random = random.Random(seed)
        self.now = start

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(0.0, seconds)

    def check(self) -> None:
        """Nobody presses Ctrl-C here; a crash is worse."""


class Fuse:
    """Counts the points at which a process can die, and makes it die at one of them."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.points = 0

    def point(self) -> None:
        self.points += 1
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left = None
                raise Crash

    def around(self, effect: Callable[[], T]) -> T:
        """Die before the effect, or after it with its answer lost."""
        self.point()
        result = effect()
        self.point()
        return result


class SimStore:
    """A store whose disk is a variable; what was written is what survives."""

    location = "sim"

    def __init__(self, fuse: Fuse) -> None:
        self.fuse = fuse
        self.disk: bytes | None = None
        self.serials: list[int] = []

    def read(self) -> State | None:
        return None if self.disk is None else codec.decode(self.disk, self.location)

    def write(self, state: State) -> None:
        data = codec.encode(state)

        def put() -> None:
            self.disk = data
            self.serials.append(state.serial)

        self.fuse.around(put)

    @contextmanager
    def lock(self, purpose: str, timeout: float = 0.0, **_: Any) -> Iterator[LockInfo]:
        yield LockInfo.of_this_process("0", purpose)

    def unlock(self, lock_id: str) -> LockInfo:
        raise NotImplementedError

    def lock_info(self) -> LockInfo | None:
        return None


class FusedProvider:
    """A provider during whose calls the process may die."""

    def __init__(self, inner: Provider, fuse: Fuse) -> None:
        self.inner, self.fuse = inner, fuse

    @property
    def limits(self) -> Limits:
        return self.inner.limits

    def identity(self) -> dict[str, str]:
        return self.inner.identity()

    def alternatives(self, config: NodeConfig) -> Sequence[Choice]:
        return self.inner.alternatives(config)

    def launch(self, request: LaunchRequest) -> LaunchResult:
        return self.fuse.around(lambda: self.inner.launch(request))

    def find(self, tags: Mapping[str, str]) -> list[VM]:
        return self.fuse.around(lambda: self.inner.find(tags))

    def terminate(self, ids: Sequence[str]) -> Sequence[str]:
        return self.fuse.around(lambda: self.inner.terminate(ids))
