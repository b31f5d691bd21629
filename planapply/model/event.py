"""What happens during an apply, as it happens; the command line prints it."""

from typing import Any, Literal

from planapply.model.base import Model

EventKind = Literal[
    "launching",  # the provider is being asked
    "launched",
    "joined",
    "failed",
    "retiring",
    "terminating",
    "terminated",
    "updated",
    "adopted",
    "waiting",
    "resource",
    "note",
    "finished",
]


class Event(Model):
    """One thing that happened; `apply --json` prints one a line."""

    event: EventKind
    names: tuple[str, ...] = ()
    """The nodes it is about."""
    message: str = ""
    data: dict[str, Any] = {}
