"""A use case in a thread of its own, for callers that have an event loop or that may be interrupted."""

import queue
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, TypeVar

from planapply.background import BackgroundCall
from planapply.fleet import Abandoned, Stopped
from planapply.model.diagnostics import PlanapplyError
from planapply.model.event import Event
from planapply.ops.workspace import Workspace

T = TypeVar("T")
_INTERVAL = 0.1
"""Seconds between two looks for events, and for an interrupt."""


class EventView(Protocol):
    """A display of events, called in the thread that waits."""

    def on_event(self, event: Event) -> None:
        """Show an event."""

    def refresh(self) -> None:
        """Show the time that has passed."""

    def show_stopping(self) -> None:
        """Show that no further requests are sent."""


def run_in_background(
    work: Callable[[Callable[[Event], None]], T], workspace: Workspace, view: EventView
) -> T:
    """Run `work` in a thread, and pass the events that it reports to `view` in this one.

    After KeyboardInterrupt, or if `view` raises, no further requests are sent, and what was done is
    recorded; then the exception is raised. Raise what `work` raises.
    """
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    running = BackgroundCall(lambda: work(events.put), "planapply")
    listener, workspace.on_event = workspace.on_event, events.put
    try:
        stopped_by = _show_until_finished(running, events, workspace, view)
    finally:
        workspace.on_event = listener
    try:
        result = running.result()
    except Stopped as stopped:
        if stopped_by is None:
            raise
        raise _describe(stopped_by, stopped) from stopped_by
    if stopped_by is not None:
        raise _describe(stopped_by, None) from stopped_by
    return result


def _show_until_finished(
    running: BackgroundCall[T],
    events: "queue.SimpleQueue[Event]",
    workspace: Workspace,
    view: EventView,
) -> BaseException | None:
    """Show events until the call has finished; return the exception that stopped it, if any."""
    stopped_by: BaseException | None = None

    def stop() -> None:
        workspace.clock.stop()
        workspace.store.set_deadline()
        with suppress(Exception):  # what was done must be recorded
            view.show_stopping()

    try:
        running.start()
    except BaseException as error:
        if running.cancel():
            raise
        stopped_by = error
        stop()
    while True:
        try:
            is_finished = running.wait(_INTERVAL)
            while stopped_by is None and not events.empty():
                view.on_event(events.get())
            if stopped_by is None:
                view.refresh()
            if is_finished:
                return stopped_by
        except BaseException as error:
            if stopped_by is not None:
                raise
            stopped_by = error
            stop()


def _describe(cause: BaseException, stopped: Stopped | None) -> BaseException:
    """Return the exception to raise for what stopped the work."""
    if not isinstance(cause, Exception):
        return type(cause)(*cause.args)
    left = " Calls that have not answered were abandoned." if isinstance(stopped, Abandoned) else ""
    return PlanapplyError(
        f"stopped, because the progress callback raised {type(cause).__name__}: {cause}",
        f"What was done until then is recorded.{left} The next apply or destroy continues from there.",
    )
