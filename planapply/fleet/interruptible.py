"""Work that is not waited for any longer than the user wants."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TypeVar

from planapply.fleet.clock import Clock, Stopped
from planapply.fleet.journal import Journal
from planapply.model.diagnostics import PlanapplyError

T = TypeVar("T")
GRACE_SECONDS = 5.0  # seconds that calls under way have to answer once we are stopped
_POLL_SECONDS = 0.2  # seconds


class Abandoned(Stopped):
    """Stopped, with calls under way that had not answered: their threads are still there."""


def run_interruptibly(work: Callable[[], T], clock: Clock, journal: Journal) -> T:
    """What `work` gives, run in a thread of its own.

    Once the clock is stopped, it has a grace to record what was asked. Then it is left alone, and
    Abandoned is raised: intents are in the state, to which nothing is written any more. The
    exception tells what the store said, should it have failed.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, name="planapply", daemon=True).start()
    try:
        while True:
            try:
                return outcome.result(_POLL_SECONDS)
            except FutureTimeout:
                if outcome.done():
                    raise  # it is the work's own
                clock.check()
    except Stopped:
        stopped: Stopped
        try:
            return outcome.result(GRACE_SECONDS)
        except FutureTimeout:
            if outcome.done():
                raise
            stopped = Abandoned()
        except Stopped as error:
            stopped = error
        store_error = journal.close(stopped)
        if isinstance(store_error, PlanapplyError):
            stopped.diagnostics = store_error.diagnostics
        raise stopped from None
    finally:
        if not outcome.done():
            journal.close(Stopped())
