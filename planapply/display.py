"""The progress of a running apply: a live display, plain lines, or one JSON document per line."""

import os
import shutil
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from planapply import terminal
from planapply.model.event import Event
from planapply.model.plan import Plan
from planapply.render.progress import Progress, event_text
from planapply.render.text import make_printable
from planapply.render.values import format_elapsed

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

_PRINTED_ABOVE = ("note", "resource", "hook")
"""Events that the live display of nodes does not show."""
STOPPING_MESSAGE = (
    "Stopping: sending no further requests, and recording those already sent. "
    "Press Ctrl-C again to exit immediately."
)


class Display:
    """The display of one apply; it accepts events from any thread. `now` returns seconds."""

    def __init__(self, *, json: bool, wait: bool, now: Callable[[], float]) -> None:
        self.progress = Progress(wait=wait)
        self._json, self._now = json, now
        self._lock = threading.Lock()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def start(self, plan: Plan) -> None:
        """Show the nodes of the plan from now on."""
        with self._lock:
            self.progress.expect(plan, self._now())
        if not self._json and terminal.can_draw(sys.stderr):
            terminal.print_message("")
            self._start_live()

    def on_event(self, event: Event) -> None:
        """Show an event."""
        with self._lock:
            now = self._now()
            self.progress.update(event, now)
            if self._json:
                terminal.show_event(event)
            elif self._live is None:
                since = now if self.progress.started_at is None else self.progress.started_at
                terminal.print_message(f"{format_elapsed(now - since):>7}  {event_text(event)}")
        # Without holding `_lock`: the live display calls `_render` while it holds its own lock.
        if self._live is not None and event.event in _PRINTED_ABOVE:
            self._live.console.print(f"  {make_printable(event_text(event))}", markup=False)

    def show_stopping(self) -> None:
        """Show that the apply is stopping.

        For a signal handler: wait for nothing that the interrupted code may hold.
        """
        self.progress.stopping = True
        if self._live is None:
            with suppress(OSError, ValueError):
                os.write(sys.stderr.fileno(), f"{STOPPING_MESSAGE}\n".encode())

    def _start_live(self) -> None:
        from rich.console import Console
        from rich.live import Live

        # Only lines that fit are printed through this console. Stdout may be a file, so rich must not
        # redirect it.
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._live = Live(
            console=console,
            get_renderable=self._render,
            refresh_per_second=8,
            redirect_stdout=False,
            vertical_overflow="crop",
        )
        self._live.start()

    def _render(self) -> "Text":
        from rich.text import Text

        size = shutil.get_terminal_size()
        with self._lock:
            lines = self.progress.lines(self._now(), size.columns - 1, size.lines)
        is_colored = terminal.has_colors(sys.stderr)
        return Text("\n").join(
            Text.assemble(
                *((make_printable(text), style if is_colored else "") for text, style in spans)
            )
            for spans in lines
        )
