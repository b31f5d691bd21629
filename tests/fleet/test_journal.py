"""Updates that wait for one write share the next one."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from simulator.simulated import CrashPoints, SimStore

from planapply.fleet.clock import Stopped, SystemClock
from planapply.fleet.journal import Journal
from planapply.fleet.rate_limit import TokenBucket
from planapply.model.state import State


class SlowStore(SimStore):
    """A store whose first write waits until the test lets it continue."""

    def __init__(self) -> None:
        super().__init__(CrashPoints())
        self.writing, self.go_on = threading.Event(), threading.Event()

    def write(self, state: State) -> None:
        self.writing.set()
        self.go_on.wait(120)
        super().write(state)


def test_concurrent_updates_share_one_write() -> None:
    store = SlowStore()
    journal = Journal(store, State(lineage="l", cluster="c", provider="p"))
    with ThreadPoolExecutor(101) as pool:
        first = pool.submit(journal.update, lambda state: None)
        store.writing.wait(120)
        rest = [
            pool.submit(journal.update, lambda state, i=i: state.pins.update({str(i): i}))
            for i in range(100)
        ]
        while len(journal._queue) < 100:
            time.sleep(0.001)
        store.go_on.set()
        for future in (first, *rest):
            future.result(120)
    assert journal.writes == 2
    durable = store.read()
    assert durable is not None
    assert (len(durable.pins), durable.serial) == (100, 2)


def test_closed_journal_refuses_updates() -> None:
    journal = Journal(SimStore(CrashPoints()), State(lineage="l", cluster="c", provider="p"))
    journal.close(Stopped())
    with pytest.raises(Stopped):
        journal.update(lambda state: None)
    assert journal.writes == 0


def test_stopping_the_clock_wakes_sleepers() -> None:
    clock = SystemClock()
    threading.Timer(0.05, clock.stop).start()
    with pytest.raises(Stopped):
        clock.sleep(60.0)
    with pytest.raises(Stopped):
        clock.check()


class Ticks(SystemClock):
    """A clock that counts how long it would have slept."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.slept = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds


def test_token_bucket_keeps_its_rate() -> None:
    clock = Ticks()
    bucket = TokenBucket(clock, (5.0, 2.0))
    for _ in range(5):
        bucket.take()
    assert clock.slept == 0.0
    for _ in range(10):
        bucket.take()
    assert clock.slept == pytest.approx(5.0)
    bucket.take(20.0)
    assert clock.slept == pytest.approx(15.0)
