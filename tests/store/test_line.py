"""Calls of a bucket that does not answer, and signals."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from planapply.store import bucket
from planapply.store.bucket import Line, NoAnswer


class Heard(BaseException):
    """What the signal's handler raises."""


@pytest.fixture(autouse=True)
def usr1(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The signal, which is heard as an exception."""

    def hear(number: int, frame: object) -> None:
        raise Heard

    monkeypatch.setattr(bucket, "GRACE", 0.3)
    before = signal.signal(signal.SIGUSR1, hear)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """What calls that are not answered wait for."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("changes", [False, True])
def test_a_signal_does_not_wait_for_the_answer(changes: bool, over: threading.Event) -> None:
    def call() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        over.wait()

    with pytest.raises(Heard):
        Line().ask(call, changes=changes)


def test_what_becomes_of_a_change_is_awaited_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket, "GRACE", 60.0)  # it comes: however late, on a busy machine
    line, done = Line(), []

    def call() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        while line._left is None:  # the signal has not been heard
            time.sleep(0.001)
        done.append(True)

    with pytest.raises(Heard):
        line.ask(call, changes=True)
    assert done


def test_in_a_hurry_all_calls_together_have_a_grace(over: threading.Event) -> None:
    line = Line()
    assert line.ask(lambda: 1) == 1

    def hang() -> None:
        line.hurry()
        over.wait()

    with pytest.raises(NoAnswer):
        line.ask(hang)
    line.hurry()  # gives no second one
    with pytest.raises(NoAnswer):
        line.ask(lambda: pytest.fail("it was asked once more"))
    line.calm()
    assert line.ask(lambda: 2) == 2


def test_errors_are_the_caller_s() -> None:
    with pytest.raises(ZeroDivisionError):
        Line().ask(lambda: 1 / 0)
    with pytest.raises(TimeoutError):
        Line().ask(lambda: (_ for _ in ()).throw(TimeoutError))
