"""Properties that hold for every file that is passed as a spec."""

from pathlib import Path
from typing import Any

import pytest
import tomli
from diff.model import empty_state, simulate_apply, vms
from hypothesis import example, given
from hypothesis import strategies as st
from specs import LOCAL, load_text
from strategies import DOCUMENTS, JSON, OVERRIDES, WORDS, broken_texts, texts

from planapply.diff import DiffOptions, create_plan, refresh
from planapply.model.desired import DesiredState, build_desired_state
from planapply.model.diagnostics import PlanapplyError, Severity
from planapply.model.toml import KeyPath, format_value
from planapply.specfile.locate import locate

LATER = 1e6


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file for all examples: each example overwrites the previous one."""
    return tmp_path_factory.mktemp("specs")


def as_toml(document: dict[str, Any]) -> str:
    return "".join(f"{format_value({key: value})[2:-2]}\n" for key, value in document.items())


@given(st.data(), DOCUMENTS)
def test_valid_spec_means_the_same_in_any_notation(
    folder: Path, data: st.DataObject, document: dict[str, Any]
) -> None:
    spec, found = load_text(folder, data.draw(texts(st.just(document))))
    assert all(diagnostic.severity is Severity.WARNING for diagnostic in found)
    again, _ = load_text(folder, as_toml(document))
    assert again == spec
    assert again.digest == spec.digest
    assert spec.state_location(folder / "spec.toml")


@given(DOCUMENTS)
def test_desired_state_round_trips_through_json(folder: Path, document: dict[str, Any]) -> None:
    spec, _ = load_text(folder, as_toml(document))
    want = build_desired_state(spec, LOCAL, {})
    again = DesiredState.model_validate_json(want.model_dump_json())
    assert again == want
    assert [g.config.digest for g in again.groups] == [g.config.digest for g in want.groups]
    assert [group.name for group in want.groups] == list(document.get("workers", {}))


@given(DOCUMENTS)
def test_applied_plan_of_a_valid_spec_leaves_no_changes(
    folder: Path, document: dict[str, Any]
) -> None:
    spec, _ = load_text(folder, as_toml(document))
    want, state = build_desired_state(spec, LOCAL, {}), empty_state()
    plan = create_plan(want, refresh(state, vms(state), LATER, 60.0), DiffOptions())
    state = simulate_apply(plan, refresh(state, vms(state), LATER, 60.0))
    again = create_plan(want, refresh(state, vms(state), LATER, 60.0), DiffOptions())
    assert again.changes == ()
    groups = want.groups
    assert len(state.nodes) == 1 + sum(g.count or g.min or 0 for g in groups)


@given(broken_texts(), OVERRIDES)
@example('"\\u0000" = 1', [])
@example("a = " + "[" * 399 + "]" * 399, [])
@example("a = " + "[" * 3000, [])
@example("a = " + "1" * 5000, [])
@example("cluster.name = 2024-01-02 03:04:05\r\n[workers]\r\ncpu = [[1]]", [])
@example("[[workers]]\ncount = 1\n[[cluster]]\n[provider]\nx.y = 1\n", [])
@example('[cluster]\nname="a"\n[workers.cpu]\ncount=1', ["cluster.name='\udcff'"])
@example("", ["\udcff=1"])
def test_broken_spec_is_reported_with_valid_positions(
    folder: Path, text: str, overrides: list[str]
) -> None:
    try:
        load_text(folder, text, *overrides)
    except PlanapplyError as error:
        assert error.diagnostics
        lines = text.split("\n")
        for diagnostic in error.diagnostics:
            assert diagnostic.severity is Severity.ERROR
            assert diagnostic.summary
            diagnostic.model_dump_json()
            if (source := diagnostic.source) is not None:
                assert 1 <= source.line <= len(lines)
                assert 1 <= source.column <= len(lines[source.line - 1]) + 1
                assert len(source.text) <= len(lines[source.line - 1])


def paths(value: Any, path: KeyPath = ()) -> set[KeyPath]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return {path}.union(
        *(paths(v, (*path, k)) if isinstance(v, dict | list) else {(*path, k)} for k, v in items)
    )


@given(texts(st.dictionaries(WORDS, JSON, max_size=4)))
def test_every_key_is_located_where_it_is_written(text: str) -> None:
    document = tomli.loads(text)
    places = locate(text)
    assert places.keys() == paths(document)
    lines = text.replace("\r\n", "\n").split("\n")
    for path, (line, column) in places.items():
        name = next((part for part in reversed(path) if isinstance(part, str)), None)
        rest = lines[line - 1][column - 1 :]
        if path and isinstance(path[-1], str):
            assert rest.startswith((path[-1], format_value(path[-1]), f"'{path[-1]}'")), (
                name,
                rest,
            )
