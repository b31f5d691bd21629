"""The one place that waits, retries and backs off."""

from collections.abc import Callable
from typing import TypeVar

from planapply.fleet.clock import Clock
from planapply.provider import ErrorKind, ProviderError

T = TypeVar("T")

RETRIED_KINDS = frozenset({ErrorKind.THROTTLED, ErrorKind.UNAVAILABLE})
FIRST_DELAY, LONGEST_DELAY = 0.5, 20.0


class Retrier:
    """Calls that are tried again, and things that are waited for.

    `limit` is how long, in seconds, one call may keep failing before its error is told.
    """

    def __init__(self, clock: Clock, limit: float = 120.0) -> None:
        self.clock, self.limit = clock, limit

    def call(
        self,
        function: Callable[[], T],
        *,
        retry_kinds: frozenset[ErrorKind] = frozenset(),
        limit: float | None = None,
    ) -> T:
        """Call until it answers, backing off exponentially, with jitter.

        What is throttled or unavailable is tried again, and the kinds in `retry_kinds`; every other
        ProviderError, and the last one when patience ends, is raised. Raises Stopped when stopped.
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
