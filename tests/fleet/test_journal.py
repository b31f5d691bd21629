"""Updates that wait for one write share the next one."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from simulator.simulated import Fuse, SimStore

from planapply.fleet.clock import Stopped, SystemClock
from planapply.fleet.journal import Journal
from planapply.fleet.retry import Bucket
from planapply.model.state import State


class SlowStore(SimStore):
    """Its first write waits until it is told to go on."""

    def __init__(self) -> None:
        super().__init__(Fuse())
        self.writing, self.go_on = threading.Event(), threading.Event()

    def write(self, state: State) -> None:
        self.writing.set()
        self.go_on.wait(120)
        super().write(state)


def test_a_hundred_updates_during_one_write_are_one_more() -> None:
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


def test_a_closed_journal_takes_nothing() -> None:
    journal = Journal(SimStore(Fuse()), State(lineage="l", cluster="c", provider="p"))
    journal.close(Stopped())
    with pytest.raises(Stopped):
        journal.update(lambda state: None)
    assert journal.writes == 0


def test_a_stopped_clock_wakes_who_sleeps() -> None:
    clock = SystemClock()
    threading.Timer(0.05, clock.stop).start()
    with pytest.raises(Stopped):
        clock.sleep(60.0)
    with pytest.raises(Stopped):
        clock.check()


class Ticks(SystemClock):
    """Counts how long it would have slept."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.slept = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds


def test_a_bucket_keeps_to_its_rate() -> None:
    clock = Ticks()
    bucket = Bucket(clock, (5.0, 2.0))
    for _ in range(5):
        bucket.take()
    assert clock.slept == 0.0
    for _ in range(10):
        bucket.take()
    assert clock.slept == pytest.approx(5.0)
    bucket.take(20.0)
    assert clock.slept == pytest.approx(15.0)
