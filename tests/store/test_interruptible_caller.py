"""Calls of a bucket that does not answer, interrupted by signals."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from planapply.store import bucket
from planapply.store.bucket import DeadlineExceeded, InterruptibleCaller


class Signaled(BaseException):
    """The exception of the signal's handler."""


@pytest.fixture(autouse=True)
def usr1(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the signal SIGUSR1 raise an exception."""

    def handle(number: int, frame: object) -> None:
        raise Signaled

    monkeypatch.setattr(bucket, "GRACE", 0.3)
    before = signal.signal(signal.SIGUSR1, handle)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """An event that calls without an answer wait for."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("is_write", [False, True])
def test_signal_does_not_wait_for_the_response(is_write: bool, over: threading.Event) -> None:
    def call() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        over.wait()

    with pytest.raises(Signaled):
        InterruptibleCaller().call(call, is_write=is_write)


def test_signal_waits_for_the_outcome_of_a_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket, "GRACE", 60.0)  # enough for a busy machine
    caller, done = InterruptibleCaller(), []

    def call() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        while caller._remaining is None:  # until the signal is handled
            time.sleep(0.001)
        done.append(True)

    with pytest.raises(Signaled):
        caller.call(call, is_write=True)
    assert done


def test_calls_share_one_deadline(over: threading.Event) -> None:
    caller = InterruptibleCaller()
    assert caller.call(lambda: 1) == 1

    def hang() -> None:
        caller.set_deadline()
        over.wait()

    with pytest.raises(DeadlineExceeded):
        caller.call(hang)
    caller.set_deadline()  # does not extend the first deadline
    with pytest.raises(DeadlineExceeded):
        caller.call(lambda: pytest.fail("it was called again"))
    caller.clear_deadline()
    assert caller.call(lambda: 2) == 2


def test_errors_are_raised_to_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        InterruptibleCaller().call(lambda: 1 / 0)
    with pytest.raises(TimeoutError):
        InterruptibleCaller().call(lambda: (_ for _ in ()).throw(TimeoutError))
