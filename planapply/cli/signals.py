"""Ctrl-C and similar signals: they end the process, or stop an apply after it has recorded its work."""

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
    """A signal that arrived while nothing has to be finished first.

    Not a KeyboardInterrupt, which typer would treat as SIGINT, whatever the signal was.
    """

    def __init__(self, number: int) -> None:
        self.code = exit_code(number)
        self.diagnostics: tuple[Diagnostic, ...] = ()
        """Problems during the cleanup, such as a lock that could not be released."""
        super().__init__(number)


def exit_code(number: int) -> int:
    """Return the exit code that shells use for a signal, such as 130 for SIGINT."""
    return 128 + number


class _SignalState:
    """The signal received, and the callback that stops the current work."""

    stop: Callable[[], None] | None = None
    received: int | None = None
    exit_notice: Callable[[], str] = str
    """Return the notice to print when the process exits immediately; must wait for nothing."""


_signal_state = _SignalState()


@contextmanager
def handle_signals() -> Iterator[None]:
    """Turn signals into Interrupted; signals that are ignored (nohup, `&`) stay ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can set handlers; the calling program handles its own signals
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
            # Imported only now: imports are slow, and run under `handle_signals`.
            from planapply import terminal

            terminal.report(interrupted.diagnostics)
        raise
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)


@contextmanager
def stop_on_signal(stop: Callable[[], None]) -> Iterator[None]:
    """Let the first signal call `stop` instead of raising Interrupted.

    A second SIGINT or SIGTERM exits immediately, here as elsewhere. That is safe, since intents are
    durable.
    """
    _signal_state.stop, _signal_state.received = stop, None
    try:
        yield
    finally:
        _signal_state.stop = None


def set_exit_notice(exit_notice: Callable[[], str]) -> None:
    """Set the function that returns the last message of a process that exits immediately.

    The message names what the process leaves behind; it may be empty.
    """
    _signal_state.exit_notice = exit_notice


def stop_exit_code() -> int | None:
    """Return the exit code for the signal that `stop_on_signal` received, if any."""
    return None if _signal_state.received is None else exit_code(_signal_state.received)


def exit_immediately(code: int) -> NoReturn:
    """Exit now, whatever the process's threads wait for."""
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
    text = f"Exited immediately. {notice}\n".encode(errors="replace") if notice else b""
    stream = sys.stderr.fileno()
    # A reader that has stopped reading must not block the exit.
    if select.select([], [stream], [], 0)[1]:
        os.write(stream, (_SHOW_CURSOR if sys.stderr.isatty() else b"") + text)
