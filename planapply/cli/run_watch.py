"""The watch command: its lines or events, and its exit code."""

import os
import sys
import threading
from collections import Counter
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import TextIO

from planapply import terminal
from planapply.cli.errors import diagnostics_of
from planapply.cli.open_workspace import finished_event
from planapply.cli.signals import Interrupted, exit_immediately, stop_exit_code, stop_on_signal
from planapply.display import STOPPING_MESSAGE
from planapply.fleet import Abandoned, Stopped
from planapply.model.diagnostics import Diagnostic, PlanapplyError
from planapply.model.event import Event
from planapply.model.names import SCHEDULER
from planapply.model.state import State
from planapply.model.watch import Round
from planapply.ops.watch import Problem, Watch
from planapply.ops.watch_hooks import HookRunner
from planapply.ops.workspace import Workspace
from planapply.render.document import diagnostics_document
from planapply.render.progress import event_text
from planapply.render.text import line, wrap
from planapply.render.values import format_duration, format_location, format_time
from planapply.render.watch import round_document, round_text

_INDENT = "    "
_LEFT_RUNNING = "Watch stopped; the cluster is still running."


@dataclass
class WatchRun:
    """One watch; a `View` of its rounds."""

    workspace: Workspace
    interval: float
    once: bool
    json: bool
    lock_timeout: float = 0.0
    _reported: set[str] = field(default_factory=set)
    """VMs whose loss was reported in the last round."""
    _counts: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> int:
        """Run the watch, and return the exit code."""
        self.workspace.on_event = self.on_event
        hooks = HookRunner(self.workspace, self, self._stop_on_signal, self._show_hook)
        watch = Watch(
            self.workspace, hooks, self._stop_on_signal, self.interval, self.once, self.lock_timeout
        )
        try:
            try:
                result = watch.run()
            except (PlanapplyError, OSError) as error:
                if stop_exit_code() is None:
                    hooks.report_failure(error)
                raise
        except Stopped as stopped:
            code = self._report_stopped(stopped.diagnostics)
            if isinstance(stopped, Abandoned):
                exit_immediately(code)
            return code
        except Interrupted as interrupted:
            self.on_event(finished_event(interrupted, self._numbers()))
            terminal.print_message(_LEFT_RUNNING)
            raise
        except Exception as error:
            if isinstance(error, PlanapplyError) and stop_exit_code() is not None:
                return self._report_stopped(error.diagnostics)
            self.on_event(finished_event(error, self._numbers()))
            raise
        outcome = "incomplete" if result.is_incomplete else "complete"
        data = {"outcome": outcome, **self._numbers()}
        self.on_event(Event(event="finished", data=data))
        if self.once and not self.json and not (round_text(result) or result.is_incomplete):
            terminal.show([line("Nothing to do.")])
        return 1 if result.is_incomplete else 0

    def _report_stopped(self, problems: tuple[Diagnostic, ...]) -> int:
        details = {"diagnostics": diagnostics_document(problems)} if problems else {}
        data = {"outcome": "stopped", **self._numbers(), **details}
        self.on_event(Event(event="finished", data=data))
        terminal.print_message(_LEFT_RUNNING)
        terminal.report(problems)
        return stop_exit_code() or 130

    def _stop_on_signal(self) -> AbstractContextManager[object]:
        return stop_on_signal(self._stop)

    def _stop(self) -> None:
        self.workspace.clock.stop()
        self.workspace.store.set_deadline()
        with suppress(OSError, ValueError):  # a signal handler must wait for nothing
            os.write(sys.stderr.fileno(), f"{STOPPING_MESSAGE}\n".encode())

    def on_event(self, event: Event) -> None:
        """Show an event for programs; people get a line for each round."""
        if not self.json:
            return
        with self._lock:  # from any thread
            terminal.show_event(event)

    def show_note(self, event: Event) -> None:
        """Print a note."""
        self.on_event(event)
        if not self.json:
            self._print(f"{self._time()}  {event_text(event)}")

    def _show_hook(self, event: Event) -> None:
        self.on_event(event)
        if not self.json:
            self._report(event_text(event))

    def show_start(self, state: State) -> None:
        """Print which cluster is watched."""
        nodes = len(state.nodes.keys() - {SCHEDULER})
        where = format_location(state.provider, state.cloud)
        how = "" if self.once else f", every {format_duration(self.interval)}"
        workers = "1 worker" if nodes == 1 else f"{nodes} workers"
        text = f'watching cluster "{state.cluster}" ({where}), {workers}{how}'
        self.on_event(Event(event="note", message=text))
        if not self.json and not self.once:
            self._print(f"{text[0].upper()}{text[1:]}. Ctrl-C leaves it running.")

    def show_round(self, result: Round, seconds: float) -> None:
        """Print a round that did something."""
        self._counts["added"] += len(result.launched)
        self._counts["destroyed"] += len(result.removed) + len(result.strays)
        self.on_event(Event(event="round", data=round_document(result, seconds)))
        if not self.json and (text := round_text(result, self._reported)):
            self._print(f"{self._time()}  {text}")
        self._reported = {change.vm for change in result.lost if change.vm}

    def show_failed_round(self, error: Problem, seconds: float) -> None:
        """Print a failed round for programs; people get its problem once."""
        data = {
            "outcome": "failed",
            "diagnostics": diagnostics_document(diagnostics_of(error)),
            "seconds": round(max(0.0, seconds), 3),
        }
        self.on_event(Event(event="round", data=data))

    def show_problem(self, error: Problem) -> None:
        """Print a new problem, with advice."""
        if not self.json:
            for problem in diagnostics_of(error):
                detail = f". {problem.detail}" if problem.detail else ""
                self._report(f"{problem.severity.value}: {problem.summary}{detail}")

    def show_solved(self, error: Problem) -> None:
        """Print that a problem no longer exists."""
        if not self.json:
            self._report(f"no longer: {diagnostics_of(error)[0].summary}")

    def _numbers(self) -> dict[str, int]:
        """Return how many nodes were launched and removed so far, as the last event of an apply has it."""
        return {key: self._counts[key] for key in ("added", "changed", "destroyed")}

    def _time(self) -> str:
        return format_time(self.workspace.clock.time())

    def _report(self, text: str) -> None:
        """Print a message that belongs to a round, as its lines are."""
        terminal.print_message(*_wrap(f"{self._time()}  {text}", sys.stderr))

    def _print(self, text: str) -> None:
        terminal.show(map(line, _wrap(text, sys.stdout)))


def _wrap(text: str, stream: TextIO) -> list[str]:
    """Return the lines of a message for a terminal, all but the first indented."""
    first, *more = wrap(text, terminal.width(stream) - len(_INDENT))
    return [first, *(f"{_INDENT}{part}" for part in more)]
