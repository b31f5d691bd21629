"""An interrupt while the thread of a use case starts: it stops the work, or the work never begins."""

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from planapply.api.progress import ProgressView
from planapply.api.run_in_background import run_in_background

start_thread = threading.Thread.start


def interrupt_start(monkeypatch: pytest.MonkeyPatch, start: Callable[[Any], None]) -> None:
    """Raise KeyboardInterrupt in the first `Thread.start`, after calling `start`."""

    def interrupted(thread: threading.Thread) -> None:
        monkeypatch.setattr(threading.Thread, "start", start_thread)
        start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)


def run(work: Callable[[], None], stopped: threading.Event) -> None:
    clock, store = SimpleNamespace(stop=stopped.set), SimpleNamespace(set_deadline=lambda: None)
    workspace: Any = SimpleNamespace(clock=clock, store=store, on_event=None)
    run_in_background(lambda _: work(), workspace, ProgressView())


def test_interrupt_after_the_thread_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped, begun, recorded = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert stopped.wait(60)
        recorded.set()

    def start(thread: threading.Thread) -> None:
        start_thread(thread)
        begun.wait(60)

    interrupt_start(monkeypatch, start)
    with pytest.raises(KeyboardInterrupt):
        run(work, stopped)
    assert recorded.is_set()


def test_interrupt_before_the_thread_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, threads = threading.Event(), []
    interrupt_start(monkeypatch, threads.append)
    with pytest.raises(KeyboardInterrupt):
        run(begun.set, threading.Event())
    start_thread(threads[0])
    threads[0].join(60)
    assert not begun.is_set()
