"""Functions in threads of their own, so that the waiting thread can stop waiting."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_futures
from typing import Generic, TypeVar

T = TypeVar("T")
POLL_INTERVAL = 0.1
"""Seconds after which a waiting thread looks again whether it must stop."""


class BackgroundCall(Generic[T]):
    """One call of a function in a daemon thread named `name`."""

    def __init__(self, function: Callable[[], T], name: str) -> None:
        self._function, self._name = function, name
        self._outcome: Future[T] = Future()

    def start(self) -> None:
        """Start the thread; a signal may raise an exception here after it has started: see `cancel`."""
        threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def cancel(self) -> bool:
        """Return whether the function has not begun; then it never will."""
        return self._outcome.cancel()

    def _run(self) -> None:
        if not self._outcome.set_running_or_notify_cancel():
            return
        try:
            self._outcome.set_result(self._function())
        except BaseException as error:
            self._outcome.set_exception(error)

    def wait(self, seconds: float = POLL_INTERVAL) -> bool:
        """Wait for the function for at most this long; return whether it has finished."""
        return bool(wait_for_futures([self._outcome], seconds).done)

    def result(self) -> T:
        """Return the result of a function that has finished, or raise what it raised."""
        return self._outcome.result()
