"""The history of a state: what is merged, dropped, and interrupted."""

from typing import Any

import pytest

from planapply.model.history import (
    CLUSTER_CHANGE,
    MAX_HISTORY,
    PastChange,
    add_change,
    shown_history,
)


def change(**values: Any) -> PastChange:
    return PastChange(**{"started_at": 0.0, "what": "apply", "outcome": "done", **values})


def scaling(**values: Any) -> PastChange:
    usual = {"what": CLUSTER_CHANGE, "group": "cpu", "who": "ann@laptop", "pid": 7}
    return change(**{**usual, **values})


def test_the_oldest_changes_are_dropped() -> None:
    history: list[PastChange] = []
    for number in range(MAX_HISTORY + 3):
        history = add_change(history, change(started_at=float(number)))
    assert [c.started_at for c in history] == [float(n) for n in range(3, MAX_HISTORY + 3)]


def test_an_unfinished_change_was_interrupted_once_another_begins() -> None:
    killed = change(outcome="running", added=2)
    history = add_change([killed], change(outcome="running"))
    assert [c.outcome for c in history] == ["interrupted", "running"]
    assert history[0].added == 2
    assert killed.outcome == "running"  # the given history stays


def test_a_change_is_running_only_while_its_lock_is_held() -> None:
    history = [change(outcome="done", lock="a"), change(outcome="running", lock="b")]
    assert [c.outcome for c in shown_history(history, "b")] == ["done", "running"]
    assert [c.outcome for c in shown_history(history, "c")] == ["done", "interrupted"]
    assert [c.outcome for c in shown_history(history, None)] == ["done", "interrupted"]


def test_successive_changes_of_one_process_to_one_group_are_one() -> None:
    first = scaling(started_at=10.0, added=2, seconds=1.0, usd_per_hour=1.0)
    second = scaling(started_at=20.0, added=1, destroyed=1, seconds=2.0, usd_per_hour=3.0)
    third = scaling(started_at=30.0, destroyed=3, seconds=4.0, usd_per_hour=0.5)
    history = add_change(add_change([first], second), third)
    assert history == [
        scaling(
            started_at=10.0, times=3, added=3, destroyed=4, seconds=7.0, usd_per_hour=0.5
        )  # the cost after the last one
    ]


@pytest.mark.parametrize(
    "difference",
    [
        {"group": "gpu"},
        {"group": ""},
        {"pid": 8},
        {"who": "bob@laptop"},
        {"what": "apply"},
    ],
    ids=str,
)
def test_other_changes_are_not_merged(difference: dict[str, Any]) -> None:
    assert len(add_change([scaling()], scaling(**difference))) == 2


@pytest.mark.parametrize("outcome", ["incomplete", "failed", "stopped", "interrupted", "running"])
def test_a_change_that_was_not_completed_stays_visible(outcome: str) -> None:
    assert len(add_change([scaling(outcome=outcome)], scaling())) == 2


def test_texts_of_others_become_one_printable_line() -> None:
    made = change(who="eve\x1b[2J\n@host", what="x" * 1000)
    assert (made.who, len(made.what)) == ("eve?[2J?@host", 200)
