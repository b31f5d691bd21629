"""The changes of a cluster, and what it has cost, as its state records them."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from planapply.model.base import Record
from planapply.model.state_fields import Timestamp

MAX_HISTORY = 100
"""Number of changes that a state keeps."""
CLUSTER_CHANGE = "Cluster"
"""`Change.what` of a change by a `planapply.Cluster`."""
WATCH_CHANGE = "watch"
"""`Change.what` of a change by `planapply watch`."""
_MERGED = frozenset({CLUSTER_CHANGE, WATCH_CHANGE})
_MAX_LENGTH = 200


def _make_printable(text: str) -> str:
    # Anyone who can write the state must neither write lines of output nor make it unreadable.
    return "".join(c if c.isprintable() else "?" for c in text[:_MAX_LENGTH])


_ShownText = Annotated[str, AfterValidator(_make_printable)]
_Count = Annotated[int, Field(ge=0)]
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class PastChange(Record):
    """One change of a cluster; begun by its first write, and completed by its last one."""

    started_at: Timestamp
    who: _ShownText = ""
    """user@host"""
    pid: int = 0
    lock: _ShownText = ""
    """The ID of the lock under which the change was made."""
    what: _ShownText
    """The command, without secrets."""
    group: _ShownText = ""
    """The only group whose nodes have changed; empty if there are several."""
    times: Annotated[int, Field(ge=1)] = 1
    """The number of successive changes that this entry stands for."""
    added: _Count = 0
    """The number of nodes and supporting resources that were created."""
    changed: _Count = 0
    destroyed: _Count = 0
    seconds: _Amount = 0.0
    usd_per_hour: _Amount | None = None
    """The cost of the cluster after the change; None if no price is known."""
    unknown_prices: list[_ShownText] = []
    """Sizes whose price is not known, which `usd_per_hour` does not include."""
    outcome: Literal["running", "done", "incomplete", "failed", "stopped", "interrupted"] = (
        "running"
    )
    """`running`: not completed; without its lock, its process has died. `done`: everything was done;
    `incomplete`: a part failed; `failed`: an error ended it; `stopped`: by a signal; `interrupted`: its
    process has died."""


class Spend(Record):
    """The cost of a cluster since it was created, as far as prices are known."""

    usd: _Amount = 0.0
    until: Timestamp
    """When `usd` was computed."""
    at_least: bool = False
    """Whether something is missing: VMs without a known price, or a time before this was recorded."""
    at_most: bool = False
    """Whether VMs that ended by themselves were counted until a command found them gone."""


class History(Record):
    """The result of `planapply history`."""

    cluster: str
    changes: list[PastChange]
    """The newest last."""
    spend: Spend | None = None
    """As of the last write of the state."""


def add_change(history: Sequence[PastChange], change: PastChange) -> list[PastChange]:
    """Return the history with one more change, the newest last, without the oldest ones.

    Successive changes by one process to one group become one, if its earlier ones were completed. A
    change that is not completed was interrupted: the lock is now held for the new one.
    """
    earlier = [
        old.model_copy(update={"outcome": "interrupted"}) if old.outcome == "running" else old
        for old in history
    ]
    if earlier and _is_continued(earlier[-1], change):
        change = _merge(earlier.pop(), change)
    return [*earlier, change][-MAX_HISTORY:]


def _is_continued(old: PastChange, new: PastChange) -> bool:
    return (
        new.what in _MERGED
        and bool(new.group)
        and old.outcome == "done"
        and (old.what, old.who, old.pid, old.group) == (new.what, new.who, new.pid, new.group)
    )


def _merge(old: PastChange, new: PastChange) -> PastChange:
    sums = ("times", "added", "changed", "destroyed", "seconds")
    return new.model_copy(
        update={
            "started_at": old.started_at,
            **{key: getattr(old, key) + getattr(new, key) for key in sums},
        }
    )


def shown_history(history: Sequence[PastChange], lock: str | None) -> list[PastChange]:
    """Return the changes as they are now: one is `running` only while its `lock` is held."""
    return [
        change.model_copy(update={"outcome": "interrupted"})
        if change.outcome == "running" and change.lock != lock
        else change
        for change in history
    ]
