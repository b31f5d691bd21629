"""Reports that a cloud throttles requests or is unavailable, while it lasts."""

import threading
from collections.abc import Callable

from planapply.fleet.clock import Clock
from planapply.model.event import Event
from planapply.provider import ErrorKind, ProviderError

FIRST_REPORT, REPORT_INTERVAL = 5.0, 30.0
"""Seconds after the first error until the first report, and between two reports."""
PAUSE = 60.0
"""Seconds without an error after which the next one begins another period."""
_TEXTS = {
    ErrorKind.THROTTLED: "for the cloud, which throttles requests",
    ErrorKind.UNAVAILABLE: "for the cloud, which is not available",
}


class ThrottlingReport:
    """Sends an event from time to time while calls are repeated; for use by several threads."""

    def __init__(self, clock: Clock, on_event: Callable[[Event], None]) -> None:
        self._clock, self._on_event = clock, on_event
        self._lock = threading.Lock()
        self._since: dict[ErrorKind, float] = {}
        self._last: dict[ErrorKind, float] = {}
        self._next_report: dict[ErrorKind, float] = {}
        self._counts: dict[ErrorKind, int] = {}

    def record(self, error: ProviderError) -> None:
        """Record the error of a call that may be repeated; report it if it is time."""
        text = _TEXTS.get(error.kind)
        if text is None:
            return
        kind, now = error.kind, self._clock.monotonic()
        with self._lock:
            if kind not in self._last or now - self._last[kind] > PAUSE:
                self._since[kind], self._counts[kind] = now, 0
                self._next_report[kind] = now + FIRST_REPORT
            self._last[kind] = now
            self._counts[kind] += 1
            if now < self._next_report[kind]:
                return
            self._next_report[kind] = now + REPORT_INTERVAL
            seconds, count = now - self._since[kind], self._counts[kind]
        requests = "1 request" if count == 1 else f"{count} requests"
        message = f"{text}: {error.summary} ({requests} refused in {seconds:.0f} s)"
        self._on_event(
            Event(
                event="throttled" if kind is ErrorKind.THROTTLED else "waiting",
                message=message,
                data={"requests": count, "seconds": round(seconds, 1), "code": error.code},
            )
        )
