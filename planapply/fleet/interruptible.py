"""An apply in a thread of its own, which is abandoned if it does not end in time after a stop."""

from collections.abc import Callable
from typing import TypeVar

from planapply.background import BackgroundCall
from planapply.fleet.clock import Clock, Stopped
from planapply.fleet.journal import Journal
from planapply.model.diagnostics import PlanapplyError

T = TypeVar("T")
GRACE_SECONDS = 5.0
"""Seconds that running calls have to answer after a stop; more than a bucket's, so that the outcome
of a write is known."""


class Abandoned(Stopped):
    """A stop with calls that have not answered; their threads still run."""


def run_interruptibly(work: Callable[[], T], clock: Clock, journal: Journal) -> T:
    """Run `work` in a thread of its own and return its result.

    After the clock is stopped, `work` has `GRACE_SECONDS` to record the answers of its calls. Then
    it is abandoned: Abandoned is raised, the state contains the intents, and nothing more is written
    to it. The exception has the store's diagnostics if the store failed.
    """
    running = BackgroundCall(work, "planapply")
    is_finished = False
    try:
        running.start()
        while not (is_finished := running.wait()):
            clock.check()
        return running.result()
    except Stopped:
        stopped: Stopped
        try:
            if is_finished := running.wait(GRACE_SECONDS):
                return running.result()
            stopped = Abandoned()
        except Stopped as error:
            stopped = error
        store_error = journal.close(stopped)
        if isinstance(store_error, PlanapplyError):
            stopped.diagnostics = store_error.diagnostics
        raise stopped from None
    finally:
        if not is_finished:
            journal.close(Stopped())
