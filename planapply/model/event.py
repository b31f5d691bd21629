"""Events: what happens during an apply, as it happens."""

from typing import Any, Literal

from planapply.model.base import Model
from planapply.model.plan import Action

EventKind = Literal[
    "launching",  # the request is about to be sent to the provider
    "launched",
    "joined",
    "failed",
    "retiring",
    "terminating",
    "terminated",
    "updated",
    "adopted",
    "waiting",
    "throttled",  # the cloud has refused requests for some time; they are repeated
    "resource",
    "note",
    "hook",  # a hook has started, printed a line, or ended
    "round",  # of `watch`: what it found and did
    "finished",
]


class Event(Model):
    """One event; `apply --json` prints one per line."""

    event: EventKind
    names: tuple[str, ...] = ()
    """The nodes or supporting resources that the event is about."""
    action: Action | None = None
    """The action on a supporting resource; None for every event that is not a `resource`."""
    message: str = ""
    data: dict[str, Any] = {}
