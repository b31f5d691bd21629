"""The edits of a spec since it was applied, which no change of a node shows."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from planapply.diff import edited_settings
from planapply.model.plan import Action, Change, ChangeReason, FieldChange

SPEC: dict[str, Any] = {
    "cluster": {"name": "zoo", "max_cost": 20.0, "protect": True},
    "provider": {"region": "mars"},
    "workers": {"cpu": {"min": 0, "max": 8, "options": {"nthreads": 1, "name": "a"}}},
}


def edit(section: str, key: str, value: Any) -> dict[str, Any]:
    return {**SPEC, section: {**SPEC.get(section, {}), key: value}}


def cpu(**settings: Any) -> dict[str, Any]:
    return edit("workers", "cpu", {**SPEC["workers"]["cpu"], **settings})


def edits(after: dict[str, Any], *changes: Change) -> list[tuple[str, Any, Any]]:
    return [(f.path, f.before, f.after) for f in edited_settings(SPEC, after, changes)]


def replaced(name: str, path: str) -> Change:
    return Change(
        name=name,
        action=Action.REPLACE,
        reason=ChangeReason.FIELDS_CHANGED,
        fields=(FieldChange(path=path),),
        before="0",
        after="1",
    )


def created(name: str) -> Change:
    return Change(name=name, action=Action.CREATE, reason=ChangeReason.NEW, after="1")


def test_settings_that_change_no_node() -> None:
    assert edits(SPEC) == []
    assert edits(edit("cluster", "max_cost", 40.0)) == [("cluster.max_cost", 20.0, 40.0)]
    assert edits(cpu(max=9), created("cpu-0")) == [("workers.cpu.max", 8, 9)]
    assert edits(edit("cluster", "ttl", 60.0)) == [("cluster.ttl", None, 60.0)]
    added = edit("workers", "gpu", {"count": 0})
    assert edits(added) == [("workers.gpu", None, {"count": 0})]
    assert edits({**SPEC, "workers": {}}) == [("workers.cpu", SPEC["workers"]["cpu"], None)]


def test_settings_that_the_plan_shows_elsewhere() -> None:
    assert edits(edit("cluster", "protect", False)) == []
    assert edits(edit("provider", "region", "venus")) == []
    assert edits(edit("workers", "gpu", {"count": 2}), created("gpu-0")) == []
    assert edits(cpu(count=3), created("cpu-0")) == []
    assert edits(cpu(**{"class": "a.B"}), replaced("cpu-0", "class")) == []
    assert edits(edit("cluster", "ttl", 60.0), replaced("scheduler", "ttl")) == []
    variables = edit("environment", "env", {"A": "1"})
    assert edits(variables, replaced("cpu-0", "environment.env.A")) == []


def test_settings_of_another_group_are_not_shown_by_a_change() -> None:
    options = cpu(options={"nthreads": 2, "name": "a"})
    expected = [("workers.cpu.options.nthreads", 1, 2)]
    assert edits(options) == expected  # the group has no nodes
    assert edits(options, replaced("gpu-0", "options.nthreads")) == expected
    assert edits(options, replaced("cpu-0", "options.name")) == expected
    assert edits(options, replaced("cpu-0", "options.nthreads")) == []


@given(st.dictionaries(st.sampled_from("abc"), st.integers(0, 2)))
def test_each_edit_is_found_once(items: dict[str, int]) -> None:
    before = SPEC["workers"]["cpu"]["options"]
    found = [path for path, _, _ in edits(cpu(options=items))]
    keys = sorted(k for k in before.keys() | items.keys() if before.get(k) != items.get(k))
    assert sorted(found) == [f"workers.cpu.options.{key}" for key in keys]
