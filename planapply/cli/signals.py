"""Ctrl-C and its relatives: at any time the end, while VMs are launched a wish to stop."""

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from planapply.model.diagnostics import Diagnostic

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
_SHOW_CURSOR = b"\x1b[?25h\n"


class Interrupted(BaseException):
    """A signal came where nothing has to be finished first.

    Not a KeyboardInterrupt: typer would take that for SIGINT, whatever signal it was.
    """

    def __init__(self, number: int) -> None:
        self.code = exit_code(number)
        self.diagnostics: tuple[Diagnostic, ...] = ()
        """What could not be undone."""
        super().__init__(number)


def exit_code(number: int) -> int:
    """As shells have it: 130 for SIGINT."""
    return 128 + number


class _Stopping:
    """How to stop, where that takes time, and the signal that asked for it."""

    stop: Callable[[], None] | None = None
    asked: int | None = None
    leaves: Callable[[], str] = str
    """What is said where the process ends at once; it must wait for nothing."""


_stopping = _Stopping()


@contextmanager
def handled() -> Iterator[None]:
    """Turn signals into Interrupted; those that are ignored (nohup, `&`) stay so."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can, and a program that calls us elsewhere has its own way
        return
    _stopping.asked, _stopping.leaves = None, str
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _handle)
    try:
        yield
    except Interrupted as interrupted:
        if interrupted.diagnostics:
            from planapply.cli import terminal  # only now: the first import is made under `handled`

            terminal.report(interrupted.diagnostics)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def gracefully(stop: Callable[[], None]) -> Iterator[None]:
    """While this is open, the first signal calls `stop`, and nothing is torn down.

    Here as elsewhere, a second SIGINT or SIGTERM ends the process at once, which is safe, since
    intents are durable.
    """
    _stopping.stop, _stopping.asked = stop, None
    try:
        yield
    finally:
        _stopping.stop = None


def ends_with(leaves: Callable[[], str]) -> None:
    """What a process that ends at once says last: what it leaves behind, if anything."""
    _stopping.leaves = leaves


def asked_to_stop() -> int | None:
    """The exit code for the signal that `gracefully` has heard."""
    return None if _stopping.asked is None else exit_code(_stopping.asked)


def leave(code: int) -> NoReturn:
    """End the process now, whatever its threads wait for."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _handle(number: int, frame: FrameType | None) -> None:
    if _stopping.asked is None:
        _stopping.asked = number
        if _stopping.stop is None:
            raise Interrupted(number)
        _stopping.stop()
    elif number in (signal.SIGINT, signal.SIGTERM):
        try:
            _say_last()
        finally:
            os._exit(exit_code(number))


def _say_last() -> None:
    left = _stopping.leaves()
    text = f"Ended at once. {left}\n".encode(errors="replace") if left else b""
    stream = sys.stderr.fileno()
    # A reader that has stopped reading must not keep us here.
    if select.select([], [stream], [], 0)[1]:
        os.write(stream, (_SHOW_CURSOR if sys.stderr.isatty() else b"") + text)
