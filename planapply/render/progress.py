"""The progress of an apply, computed from its events: the live display, and the counts of its summary."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from planapply.model.event import Event
from planapply.model.names import format_names, sort_key
from planapply.model.plan import Action, Plan
from planapply.render.text import Line, align_columns, elide, line
from planapply.render.values import format_elapsed

MAX_ROWS = 16
"""With more nodes than this, the display has bars in place of one line per node."""
_BAR_WIDTH = 24
_MAX_NAMES_WIDTH = 60
"""Columns for the names in the line of an event."""

_PHASES = {
    "launching": ("launching", "yellow"),
    "launched": ("booting", "yellow"),
    "joined": ("joined", "green"),
    "failed": ("failed", "red"),
    "retiring": ("retiring", "yellow"),
    "terminating": ("terminating", "yellow"),
    "terminated": ("terminated", "green"),
    "updated": ("updated", "green"),
}
_VERBS = {
    "launching": "launching",
    "launched": "launched",
    "joined": "joined",
    "failed": "failed",
    "retiring": "retiring",
    "terminating": "terminating",
    "terminated": "terminated",
    "updated": "updated",
    "adopted": "adopted",
}
_WAITS = ("waiting", "throttled")
_FINAL_PHASES = frozenset({"planned", "joined", "failed", "terminated", "updated"})


def event_text(event: Event) -> str:
    """Return an event on one line, as it is printed if the output is not a terminal."""
    names = _shorten_names(event.names)
    if event.event in ("note", "resource", "hook", "finished", *_WAITS):
        waiting = "waiting " if event.event in _WAITS else ""
        return f"{f'{names}: ' if names else ''}{waiting}{event.message}"
    message = f" ({event.message})" if event.message else ""
    return f"{names}: {_VERBS[event.event]}{message}"


def _shorten_names(names: Sequence[str], width: int = _MAX_NAMES_WIDTH) -> str:
    """Return the names as ranges; for a long list, the beginning and the number of nodes."""
    text = format_names(names)
    return text if len(text) <= width else f"{elide(text, width)} ({len(names)} nodes)"


@dataclass
class _NodeProgress:
    phase: str = "planned"
    since: float = 0.0
    until: float | None = None
    note: str = ""


@dataclass
class Progress:
    """The progress of one apply.

    Call `update` for each event, and `lines` for the display at any moment; times are in seconds.
    `wait` is whether the apply waits for nodes to join.
    """

    wait: bool = True
    stopping: bool = False
    nodes: dict[str, _NodeProgress] = field(default_factory=dict)
    started_at: float | None = None
    throttled: dict[str, Any] = field(default_factory=dict)
    """The longest period of throttling at its last report: `requests` refused, and `seconds`; empty without any."""
    _waiting_message: str = ""
    _launched: set[str] = field(default_factory=set)
    _joined: set[str] = field(default_factory=set)
    _terminated: set[str] = field(default_factory=set)
    _updated: set[str] = field(default_factory=set)
    _resources_created: int = 0
    _resources_removed: int = 0
    _to_launch: set[str] = field(default_factory=set)
    _to_terminate: set[str] = field(default_factory=set)

    def expect(self, plan: Plan, now: float) -> None:
        """Add the nodes of the plan, as not started."""
        self.started_at = now
        for change in plan.changes:
            if change.kind == "node":
                self.nodes[change.name] = _NodeProgress()
                if change.action in (Action.CREATE, Action.REPLACE):
                    self._to_launch.add(change.name)
                if change.action in (Action.DESTROY, Action.REPLACE):
                    self._to_terminate.add(change.name)

    def update(self, event: Event, now: float) -> None:
        """Record an event."""
        self._waiting_message = event.message if event.event in _WAITS else ""
        if event.event == "throttled":
            seconds = max(event.data["seconds"], self.throttled.get("seconds", 0.0))
            self.throttled = {
                "requests": max(event.data["requests"], self.throttled.get("requests", 0)),
                "seconds": seconds,
            }
        if event.event == "resource":
            self._resources_created += event.action is Action.CREATE
            self._resources_removed += event.action is Action.DESTROY
        done = {
            "launched": self._launched,
            "joined": self._joined,
            "terminated": self._terminated,
            "updated": self._updated,
        }.get(event.event)
        if done is not None:
            done.update(event.names)
        if event.event not in _PHASES:
            return
        for name in event.names:
            node = self.nodes.setdefault(name, _NodeProgress())
            if node.phase == "planned":
                node.since = now
            node.phase, node.note = event.event, event.message
            is_done = node.phase in _FINAL_PHASES or (node.phase == "launched" and not self.wait)
            node.until = now if is_done else None

    def counts(self, completed: Plan | None = None) -> dict[str, int]:
        """Return the numbers of nodes and resources that were added, changed, and destroyed.

        They are those of `completed`, a plan that was carried out, since VMs that are no nodes have no
        events. Without it, events count, as the plan counts: a launched node counts as added although it
        has not joined, because it costs money. A node whose VM was gone before the apply is not destroyed
        by it.
        """
        if completed is not None:
            planned = completed.summary
            return {
                "added": planned["add"],
                "changed": planned["change"],
                "destroyed": planned["destroy"],
            }
        return {
            "added": len(self._launched) + self._resources_created,
            "changed": len(self._updated),
            "destroyed": len(self._terminated & self._to_terminate) + self._resources_removed,
        }

    def lines(self, now: float, width: int, height: int) -> list[Line]:
        """Return the current display, at most `height` lines of `width` columns."""
        if not self.nodes:
            return [self._footer(now, width)]
        table = self._rows(now, width) if self._fits_rows(height) else self._bars()
        return [*table, self._footer(now, width)]

    def _fits_rows(self, height: int) -> bool:
        return len(self.nodes) <= min(MAX_ROWS, height - 3)

    def _rows(self, now: float, width: int) -> Iterator[Line]:
        names = sorted(self.nodes, key=sort_key)
        texts = align_columns([[name, *self._row(self.nodes[name], now)] for name in names])
        for name, row in zip(names, texts, strict=True):
            node = self.nodes[name]
            style = _PHASES.get(node.phase, ("", "dim"))[1]
            style = "green" if node.until is not None and node.phase == "launched" else style
            text = elide("".join(row[1:]), width - len(row[0]) - 2)
            yield line("  ", row[0], (text, style))

    def _row(self, node: _NodeProgress, now: float) -> tuple[str, str]:
        if node.phase == "planned":
            return "", ""
        text = _PHASES[node.phase][0]
        if node.phase == "launched" and node.until is not None:
            text = "launched"
        note = f" ({node.note})" if node.note else ""
        until = now if node.until is None else node.until
        return format_elapsed(until - node.since), f"{text}{note}"

    def _bars(self) -> Iterator[Line]:
        bars = [
            ("terminated", self._terminated & self._to_terminate, self._to_terminate),
            ("launched", self._launched & self._to_launch, self._to_launch),
            (
                "joined",
                self._joined & self._to_launch,
                self._to_launch if self.wait else set[str](),
            ),
        ]
        for name, done, expected in bars:
            if expected:
                full = _BAR_WIDTH * len(done) // len(expected)
                rest = ("─" * (_BAR_WIDTH - full), "dim")
                yield line(
                    f"  {name:<10}  ", ("━" * full, "green"), rest, f"  {len(done)}/{len(expected)}"
                )
        failed = [name for name, node in self.nodes.items() if node.phase == "failed"]
        if failed:
            yield line("  ", (f"failed      {_shorten_names(failed)}", "red"))

    def _footer(self, now: float, width: int) -> Line:
        time = format_elapsed(now - (now if self.started_at is None else self.started_at))
        return line(
            f"  {time}  ", (elide(self._current_activity(), max(20, width - len(time) - 4)), "dim")
        )

    def _current_activity(self) -> str:
        if self.stopping:
            return "stopping: sending no further requests, recording those that were sent"
        if self._waiting_message:
            return f"waiting {self._waiting_message}"
        for phase, text in (
            ("terminating", "waiting for {} to terminate"),
            ("retiring", "waiting for {} to move results to other workers"),
            ("launching", "waiting for the cloud to launch {}"),
            ("launched", "waiting for {} to join"),
        ):
            names = [
                n for n, node in self.nodes.items() if node.phase == phase and node.until is None
            ]
            if names:
                return text.format(_shorten_names(names, 40))
        return ""
