"""The clock of an apply, which tests replace: time, waits, and the signal to stop."""

import random
import threading
import time
from collections.abc import Callable
from typing import Protocol

from planapply.model.diagnostics import Diagnostic


class Stopped(Exception):
    """The user stopped planapply: no further requests are sent, and open requests stay intents."""

    diagnostics: tuple[Diagnostic, ...] = ()
    """Errors about what could not be recorded or released."""


class Clock(Protocol):
    """Time, waits, and a stop signal that interrupts all waits."""

    @property
    def random(self) -> random.Random:
        """Random numbers for jitter and tokens; seeded in a simulation."""

    def time(self) -> float:
        """Return seconds since the epoch."""

    def monotonic(self) -> float:
        """Return seconds that never jump, for measuring waits."""

    def sleep(self, seconds: float) -> None:
        """Wait; raises Stopped immediately if stopped, before or during the wait."""

    def check(self) -> None:
        """Raise Stopped if stopped."""


class SystemClock:
    """Clock of this machine; `stop()` interrupts every wait."""

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
        """Stop; may be called from a signal handler or another thread."""
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
