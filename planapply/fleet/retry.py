"""The one place that waits, retries and backs off."""

import threading
from collections.abc import Callable
from typing import TypeVar

from planapply.fleet.clock import Clock
from planapply.provider import ErrorKind, PluginBug, ProviderError

T = TypeVar("T")

RETRIED = frozenset({ErrorKind.THROTTLED, ErrorKind.UNAVAILABLE})
FIRST_DELAY, LONGEST_DELAY = 0.5, 20.0


class Patience:
    """Calls that are tried again, and things that are waited for.

    `limit` is how long, in seconds, one call may keep failing before its error is told.
    """

    def __init__(self, clock: Clock, limit: float = 120.0) -> None:
        self.clock, self.limit = clock, limit

    def call(
        self,
        function: Callable[[], T],
        *,
        also: frozenset[ErrorKind] = frozenset(),
        limit: float | None = None,
    ) -> T:
        """Call until it answers, backing off exponentially, with jitter.

        What is throttled or unavailable is tried again, and the kinds in `also`; every other
        ProviderError, and the last one when patience ends, is raised. Raises Stopped when stopped.
        """
        deadline = self.clock.monotonic() + (self.limit if limit is None else limit)
        delay = FIRST_DELAY
        while True:
            self.clock.check()
            try:
                return function()
            except PluginBug:
                raise
            except ProviderError as error:
                if error.kind not in RETRIED | also or self.clock.monotonic() + delay > deadline:
                    raise
            self.clock.sleep(delay * self.clock.random.uniform(0.5, 1.0))
            delay = min(delay * 2, LONGEST_DELAY)

    def until(self, check: Callable[[], bool], *, every: float, limit: float) -> bool:
        """Look every `every` seconds until `check` holds; False after `limit` seconds."""
        deadline = self.clock.monotonic() + limit
        while not check():
            if self.clock.monotonic() >= deadline:
                return False
            self.clock.sleep(every)
        return True


class Bucket:
    """A token bucket, as clouds throttle with: `size` at once, then `rate` a second."""

    def __init__(self, clock: Clock, limits: tuple[float, float] | None) -> None:
        self._clock, self._limits = clock, limits
        self._lock = threading.Lock()
        self._level, self._at = (limits[0] if limits else 0.0), clock.monotonic()

    def take(self, amount: float = 1.0) -> None:
        """Wait until `amount` is in the bucket, and take it; more than its size is a debt."""
        if self._limits is None:
            return
        size, rate = self._limits
        with self._lock:
            now = self._clock.monotonic()
            self._level = min(size, self._level + (now - self._at) * rate) - amount
            self._at = now
            wait = max(0.0, -self._level / rate)
        if wait:
            self._clock.sleep(wait)
