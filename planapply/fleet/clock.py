"""Time, injected: the only clock and the only sleep of an apply."""

import random
import threading
import time
from collections.abc import Callable
from typing import Protocol

from planapply.model.diagnostics import Diagnostic


class Stopped(Exception):
    """The user asked us to stop: nothing more is asked of the provider; what is open stays an
    intent.
    """

    diagnostics: tuple[Diagnostic, ...] = ()
    """What could not be recorded or freed."""


class Clock(Protocol):
    """Time, waiting, and the stop signal that ends all waiting."""

    @property
    def random(self) -> random.Random:
        """For jitter and tokens; seeded in a simulation."""

    def time(self) -> float:
        """Seconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds that never jump; for measuring waits."""

    def sleep(self, seconds: float) -> None:
        """Wait; raises Stopped at once when stopped, before or during."""

    def check(self) -> None:
        """Raise Stopped when stopped."""


class SystemClock:
    """The machine's clock; `stop()` wakes every sleeper."""

    def __init__(self) -> None:
        self.random: random.Random = random.SystemRandom()
        self._stopped = threading.Event()

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        if self._stopped.wait(max(0.0, seconds)):
            raise Stopped

    def check(self) -> None:
        if self._stopped.is_set():
            raise Stopped

    def stop(self) -> None:
        """From a signal handler or another thread."""
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped.is_set()


def wait_until(clock: Clock, check: Callable[[], bool], *, interval: float, timeout: float) -> bool:
    """Call `check` every `interval` seconds until it is True; return False after `timeout` seconds.

    Raises Stopped when stopped.
    """
    deadline = clock.monotonic() + timeout
    while not check():
        if clock.monotonic() >= deadline:
            return False
        clock.sleep(interval)
    return True
