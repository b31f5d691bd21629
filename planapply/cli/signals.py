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


class _SignalState:
    """How to stop, where that takes time, and the signal that asked for it."""

    stop: Callable[[], None] | None = None
    received: int | None = None
    exit_notice: Callable[[], str] = str
    """What is said where the process ends at once; it must wait for nothing."""


_signal_state = _SignalState()


@contextmanager
def handle_signals() -> Iterator[None]:
    """Turn signals into Interrupted; those that are ignored (nohup, `&`) stay so."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can, and a program that calls us elsewhere has its own way
        return
    _signal_state.received, _signal_state.exit_notice = None, str
    previous_handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in previous_handlers.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _on_signal)
    try:
        yield
    except Interrupted as interrupted:
        if interrupted.diagnostics:
            from planapply.cli import (
                terminal,  # only now: the first import is made under `handle_signals`
            )

            terminal.report(interrupted.diagnostics)
        raise
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)


@contextmanager
def stop_on_signal(stop: Callable[[], None]) -> Iterator[None]:
    """While this is open, the first signal calls `stop`, and nothing is torn down.

    Here as elsewhere, a second SIGINT or SIGTERM ends the process at once, which is safe, since
    intents are durable.
    """
    _signal_state.stop, _signal_state.received = stop, None
    try:
        yield
    finally:
        _signal_state.stop = None


def set_exit_notice(exit_notice: Callable[[], str]) -> None:
    """What a process that ends at once says last: what it leaves behind, if anything."""
    _signal_state.exit_notice = exit_notice


def stop_exit_code() -> int | None:
    """The exit code for the signal that `stop_on_signal` has heard."""
    return None if _signal_state.received is None else exit_code(_signal_state.received)


def exit_immediately(code: int) -> NoReturn:
    """End the process now, whatever its threads wait for."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _signal_state.received is None:
        _signal_state.received = number
        if _signal_state.stop is None:
            raise Interrupted(number)
        _signal_state.stop()
    elif number in (signal.SIGINT, signal.SIGTERM):
        try:
            _print_exit_notice()
        finally:
            os._exit(exit_code(number))


def _print_exit_notice() -> None:
    notice = _signal_state.exit_notice()
    text = f"Ended at once. {notice}\n".encode(errors="replace") if notice else b""
    stream = sys.stderr.fileno()
    # A reader that has stopped reading must not keep us here.
    if select.select([], [stream], [], 0)[1]:
        os.write(stream, (_SHOW_CURSOR if sys.stderr.isatty() else b"") + text)
