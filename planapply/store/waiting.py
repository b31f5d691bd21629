"""Waiting for a lock."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from planapply.store.errors import StateLocked
from planapply.store.lockinfo import LockInfo

T = TypeVar("T")


def until_free(
    attempt: Callable[[], T],
    timeout: float,
    pause: float,
    wait: Callable[[float], None],
    on_wait: Callable[[LockInfo], None] | None,
) -> T:
    """What `attempt` returns once it raises no StateLocked; after `timeout` seconds, that error.

    Tries are `pause` seconds apart on average, at random, so that many waiters don't meet again.
    `on_wait` hears of each holder once.
    """
    began, waited, told = time.monotonic(), 0.0, None
    while True:
        try:
            return attempt()
        except StateLocked as locked:
            left = timeout - max(waited, time.monotonic() - began)
            if left <= 0:
                raise
            if on_wait and locked.holder.id != told:
                told = locked.holder.id
                on_wait(locked.holder)
        delay = min(left, random.uniform(0.5, 1.5) * pause)
        wait(delay)
        waited += delay
