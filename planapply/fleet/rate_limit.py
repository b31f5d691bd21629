"""Token buckets that keep requests within a cloud's documented rates."""

import threading

from planapply.fleet.clock import Clock


class TokenBucket:
    """Token bucket, as clouds use it to throttle: `size` at once, then `rate` per second."""

    def __init__(self, clock: Clock, limits: tuple[float, float] | None) -> None:
        self._clock, self._limits = clock, limits
        self._lock = threading.Lock()
        self._level, self._at = (limits[0] if limits else 0.0), clock.monotonic()

    def take(self, amount: float = 1.0) -> None:
        """Take `amount` and wait until the bucket has refilled by what it lacked.

        An amount larger than the bucket is a debt, for which later calls wait, too.
        """
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
