"""Progress of an apply from Python: in a notebook one output, updated in place; in a terminal as the command."""

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from planapply.display import Display
from planapply.model.event import Event
from planapply.model.plan import Plan
from planapply.render.html import pre_html
from planapply.render.progress import Progress, event_text

_WIDTH, _HEIGHT = 100, 40
"""Columns and lines of the output in a notebook."""
_STOPPED = "stopped; what was done is recorded, and the next apply or destroy continues from there"


class ProgressView:
    """Progress that is counted and not shown; the base class of those that show it."""

    def __init__(self, now: Callable[[], float] = lambda: 0.0, *, wait: bool = True) -> None:
        self.progress = Progress(wait=wait)
        self._now = now
        self._lock = threading.Lock()

    def expect(self, plan: Plan) -> None:
        """Show the nodes of the plan from now on; called in another thread than the rest."""
        with self._lock:
            self.progress.expect(plan, self._now())

    def on_event(self, event: Event) -> None:
        """Count an event."""
        with self._lock:
            self.progress.update(event, self._now())

    def refresh(self) -> None:
        """Show the time that has passed."""

    def show_stopping(self) -> None:
        """Show that no further requests are sent."""
        self.progress.stopping = True

    def close(self) -> None:
        """Show the last state."""


class CallbackView(ProgressView):
    """Progress that a function of the user gets event by event."""

    def __init__(self, callback: Callable[[Event], None], *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._callback = callback

    def on_event(self, event: Event) -> None:
        super().on_event(event)
        self._callback(event)


class TerminalView(ProgressView):
    """Progress on stderr, as the command shows it: live in a terminal, else in plain lines."""

    def __init__(self, now: Callable[[], float], *, wait: bool) -> None:
        super().__init__(now, wait=wait)
        self._display = Display(json=False, wait=wait, now=now)
        self.progress = self._display.progress

    def expect(self, plan: Plan) -> None:
        if plan.changes:
            self._display.start(plan)

    def on_event(self, event: Event) -> None:
        self._display.on_event(event)

    def close(self) -> None:
        self._display.__exit__(None, None, None)


class NotebookView(ProgressView):
    """Progress in one output of a notebook's cell, updated in place."""

    def __init__(self, now: Callable[[], float], *, wait: bool) -> None:
        super().__init__(now, wait=wait)
        self._handle: Any = None
        self._shown = ""
        self._notes: list[str] = []

    def on_event(self, event: Event) -> None:
        super().on_event(event)
        if event.event in ("note", "resource", "hook"):
            self._notes.append(event_text(event))

    def refresh(self) -> None:
        self._show_progress(is_last=False)

    def show_stopping(self) -> None:
        super().show_stopping()
        self.refresh()

    def close(self) -> None:
        with suppress(Exception):  # the frontend may be gone; the result of the apply matters
            self._show_progress(is_last=True)

    def _show_progress(self, *, is_last: bool) -> None:
        with self._lock:
            if self.progress.started_at is None or not (self.progress.nodes or self._notes):
                return
            lines = self.progress.lines(self._now(), _WIDTH, _HEIGHT)
        texts = ["".join(text for text, _ in spans) for spans in lines]
        if is_last and self.progress.stopping:
            texts[-1] = f"  {_STOPPED}"
        # The notes are first, since the nodes may have changed after them.
        self._show("\n".join([*(f"  {note}" for note in self._notes), *texts]))

    def _show(self, text: str) -> None:
        from IPython.display import display  # type: ignore[import-not-found]

        if text == self._shown:
            return
        self._shown = text
        output = {"text/html": pre_html(text), "text/plain": text}
        if self._handle is None:
            self._handle = display(output, raw=True, display_id=True)
        else:
            self._handle.update(output, raw=True)


def open_progress(
    progress: bool | Callable[[Event], None], now: Callable[[], float], *, wait: bool
) -> ProgressView:
    """Return the view for the argument `progress` of an apply; `now` returns seconds."""
    if callable(progress):
        return CallbackView(progress, now, wait=wait)
    if not isinstance(progress, bool):
        raise TypeError(f"progress must be True, False, or a callable, not {progress!r}")
    if not progress:
        return ProgressView(now, wait=wait)
    return NotebookView(now, wait=wait) if in_notebook() else TerminalView(now, wait=wait)


def in_notebook() -> bool:
    """Return whether this process is a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")
