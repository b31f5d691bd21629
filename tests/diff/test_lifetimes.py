"""Plans that change the lifetimes of a running scheduler."""

from typing import Any

import pytest

from planapply.diff import DiffOptions, create_plan, refresh
from planapply.diff.fields import is_current
from planapply.diff.progress import is_carried_out
from planapply.model.desired import DesiredState
from planapply.model.lifetimes import Lifetimes
from planapply.model.node import NodeConfig
from planapply.model.plan import Action, Change, ChangeReason, Plan
from planapply.model.state import NodeRecord, State
from planapply.render.plan import plan_lines
from planapply.render.text import to_plain_text

OLD_DIGEST = "0c566a157dceac4f"
"""The digest that an earlier version gave to `OLD`."""
OLD = NodeConfig(
    group="scheduler",
    cls="distributed.Scheduler",
    options={"dashboard": False},
    security="tls",
    idle_timeout=7200.0,
)


def config(**changes: Any) -> NodeConfig:
    # A copy would keep the digest.
    return NodeConfig(**{**OLD.model_dump(), **changes})


def state(digest: str, lifetimes: Lifetimes | None, recorded: NodeConfig | None = OLD) -> State:
    record = NodeRecord(
        vm="v", config=digest, batch="b", status="joined", lifetimes=lifetimes, tags={}
    )
    return State(
        lineage="l",
        cluster="zoo",
        provider="local",
        nodes={"scheduler": record},
        configs={} if recorded is None else {digest: recorded},
    )


def plan(before: State, **changes: Any) -> Plan:
    desired = DesiredState(
        cluster="zoo", provider="local", scheduler=config(**changes), spec_digest="d"
    )
    return create_plan(desired, refresh(before, None, 0.0, 0.0), DiffOptions())


def launched(**lifetimes: float) -> State:
    """Return the state of a scheduler with the plugin; its config may be another one's."""
    return state(config().digest, Lifetimes(**lifetimes))


def fields(change: Change) -> list[tuple[str, Any, Any, bool]]:
    return [(f.path, f.before, f.after, f.forces_replacement) for f in change.fields]


def text(made: Plan) -> str:
    return to_plain_text(plan_lines(made))


def test_lifetimes_are_not_in_the_digest() -> None:
    assert OLD_DIGEST in OLD.digests
    changed = config(idle_timeout=60.0, no_client_timeout=60.0)
    assert changed.digest == OLD.digest == config(idle_timeout=None).digest != OLD_DIGEST
    plain = config(idle_timeout=None)
    assert plain.digests == {plain.digest}  # so is every digest of earlier versions without the key


@pytest.mark.parametrize("digest", [OLD_DIGEST, OLD.digest])
def test_unchanged_lifetimes(digest: str) -> None:
    assert not plan(state(digest, None)).changes
    assert not plan(state(digest, None, recorded=None)).changes
    assert not plan(state(digest, OLD.lifetimes)).changes


def test_changed_in_place() -> None:
    before = launched(idle_timeout=1800.0)
    made = plan(before, idle_timeout=3600.0, no_client_timeout=7200.0)
    [change] = made.changes
    assert change.action is Action.UPDATE
    assert fields(change) == [
        ("cluster.idle_timeout", 1800.0, 3600.0, False),
        ("cluster.no_client_timeout", None, 7200.0, False),
    ]
    assert not is_carried_out(made, before, wait=True)
    after = launched(idle_timeout=3600.0, no_client_timeout=7200.0)
    assert is_carried_out(made, after, wait=True)
    assert not plan(after, idle_timeout=3600.0, no_client_timeout=7200.0).changes


def test_changed_in_place_as_printed() -> None:
    made = plan(launched(idle_timeout=1800.0), idle_timeout=3600.0)
    assert (
        text(made)
        == """\
planapply will change cluster "zoo" (local):

  ~   scheduler
        cluster.idle_timeout   30 min -> 1 h

Plan: 0 to add, 1 to change, 0 to destroy.
"""
    )


def test_removed_in_place() -> None:
    [change] = plan(launched(idle_timeout=1800.0), idle_timeout=None).changes
    assert fields(change) == [("cluster.idle_timeout", 1800.0, None, False)]


@pytest.mark.parametrize("digest", [OLD_DIGEST, OLD.digest])
def test_scheduler_without_the_plugin_is_replaced(digest: str) -> None:
    before = state(digest, None)
    made = plan(before, idle_timeout=3600.0)
    assert made.changes[0].reason is ChangeReason.PLUGIN_MISSING
    assert (
        text(made)
        == """\
planapply will change cluster "zoo" (local):

  -/+ scheduler
        cluster.idle_timeout   2 h -> 1 h   (forces replacement)
        (an earlier version of planapply launched it: cannot change in place)

Plan: 1 to add, 0 to change, 1 to destroy.
"""
    )
    assert not is_current(before.nodes["scheduler"], config(idle_timeout=3600.0), before.configs)
    assert is_current(before.nodes["scheduler"], OLD, before.configs)


def test_replacement_shows_changed_lifetimes() -> None:
    made = plan(launched(idle_timeout=60.0), idle_timeout=90.0, size=("big",))
    assert fields(made.changes[0]) == [
        ("size", None, "big", True),
        ("cluster.idle_timeout", 60.0, 90.0, False),
    ]


def test_workers_have_no_lifetimes() -> None:
    worker = config(group="cpu", idle_timeout=None)
    record = NodeRecord(vm="v", config=worker.digest, batch="b")
    assert is_current(record, worker, {worker.digest: worker})
