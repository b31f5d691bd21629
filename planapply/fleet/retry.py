"""Retries with exponential backoff."""

from collections.abc import Callable
from typing import TypeVar

from planapply.fleet.clock import Clock
from planapply.provider import ErrorKind, ProviderError

T = TypeVar("T")

RETRIED_KINDS = frozenset({ErrorKind.THROTTLED, ErrorKind.UNAVAILABLE})
FIRST_DELAY, LONGEST_DELAY = 0.5, 20.0


class Retrier:
    """Repeats calls that fail; `limit` is for how many seconds one call may keep failing."""

    def __init__(self, clock: Clock, limit: float = 120.0) -> None:
        self.clock, self.limit = clock, limit

    def call(
        self,
        function: Callable[[], T],
        *,
        retry_kinds: frozenset[ErrorKind] = frozenset(),
        limit: float | None = None,
    ) -> T:
        """Call a function until it succeeds, backing off exponentially with jitter.

        Retry after THROTTLED, UNAVAILABLE, and the kinds in `retry_kinds`. Raises every other
        ProviderError, the last one when the time limit is reached, and Stopped if stopped.
        """
        deadline = self.clock.monotonic() + (self.limit if limit is None else limit)
        delay = FIRST_DELAY
        while True:
            self.clock.check()
            try:
                return function()
            except ProviderError as error:
                if (
                    error.kind not in RETRIED_KINDS | retry_kinds
                    or self.clock.monotonic() + delay > deadline
                ):
                    raise
            self.clock.sleep(delay * self.clock.random.uniform(0.5, 1.0))
            delay = min(delay * 2, LONGEST_DELAY)
