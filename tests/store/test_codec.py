"""State <-> bytes."""

import json
from typing import Any

import pytest
from hypothesis import given
from inline_snapshot import snapshot
from store.samples import format_error, state, states

from planapply.model.state import State
from planapply.store.codec import decode, encode
from planapply.store.errors import StateUnreadable


def refusal(data: bytes, **options: Any) -> str:
    with pytest.raises(StateUnreadable) as raised:
        decode(data, "demo.state.json", **options)
    return format_error(raised.value)


@given(states)
def test_state_round_trips(original: State) -> None:
    data = encode(original)
    # NaN equals nothing, itself included: compare what is written.
    assert encode(decode(data, "")) == data
    assert data.endswith(b"}\n")
    assert repr(decode(data, "")) == repr(original)


@given(states)
def test_truncated_file_is_never_read(original: State) -> None:
    data = encode(original)
    for end in range(0, len(data) - 2, max(1, len(data) // 40)):
        with pytest.raises(StateUnreadable):
            decode(data[:end], "")


def test_header_is_always_written_and_defaults_are_not() -> None:
    assert encode(state(0)).decode() == snapshot("""\
{
 "format_version": 1,
 "planapply_version": "",
 "lineage": "11111111-aaaa",
 "serial": 0,
 "cluster": "demo",
 "provider": "local"
}
""")


def test_older_format_is_migrated_and_a_missing_step_is_an_error() -> None:
    def rename(document: dict[str, Any]) -> dict[str, Any]:
        return {"cluster": document.pop("name"), **document}

    older = b'{"format_version": 0, "lineage": "l", "name": "demo", "provider": "local"}'
    migrated = decode(older, "", {0: rename})
    assert (migrated.cluster, migrated.format_version) == ("demo", 1)
    oldest = older.replace(b": 0", b": -1")
    assert refusal(oldest, migrations={0: rename}) == snapshot("""\
the state demo.state.json can't be read
No planapply ever wrote format_version -1.
It was left as it is. Put a good copy back in its place; or move it away and rebuild it
from the VMs' tags with `planapply recover`.\
""")


def test_newer_format_is_refused() -> None:
    newer = json.loads(encode(state(planapply_version="9.1"))) | {"format_version": 2}
    assert refusal(json.dumps(newer).encode()) == snapshot("""\
the state demo.state.json was written by a newer planapply
It has format 2 (planapply 9.1); this planapply reads up to format 1. Upgrade planapply:
  pip install --upgrade planapply\
""")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b" \n", "It is empty."),
        (
            encode(state())[:60],
            "It breaks off (60 bytes): EOF while parsing an object at line 4 column 10.",
        ),
        (
            encode(state()).replace(b'"serial": 1,', b'"serial" 1,'),
            "It is damaged, or no JSON (135 bytes): expected `:` at line 5 column 11.",
        ),
        (
            b"\0" * 4096,
            "It is damaged, or no JSON (4096 bytes): expected value at line 1 column 1.",
        ),
        (
            b"[" * 999,
            "It is damaged, or no JSON (999 bytes): recursion limit exceeded at line 1 column 202.",
        ),
    ],
    ids=["empty", "truncated", "damaged", "zeros", "deep"],
)
def test_damage_is_reported_with_its_position(data: bytes, problem: str) -> None:
    assert refusal(data).splitlines()[:2] == ["the state demo.state.json can't be read", problem]


def test_invalid_values_are_named_and_never_printed() -> None:
    document = json.loads(encode(state())) | {
        "serial": "x",
        "tls": {"certificate": "c", "key": ["SECRET"]},
        "extra": "SECRET",
    }
    assert refusal(json.dumps(document).encode()) == snapshot("""\
the state demo.state.json can't be read
It is JSON, but not as planapply writes it:
  serial: Input should be a valid integer, unable to parse string as an integer
  tls.key: Input should be a valid string
  extra: Extra inputs are not permitted
It was left as it is. Put a good copy back in its place; or move it away and rebuild it
from the VMs' tags with `planapply recover`.\
""")


@pytest.mark.parametrize(
    "data",
    [
        b'{"format_version": "1"}',
        b'{"format_version": true}',
        b"[1, 2]",
        encode(state()).replace(b'"format_version": 1,', b""),
    ],
)
def test_foreign_json_is_refused(data: bytes) -> None:
    assert (
        refusal(data)
        == """\
demo.state.json is not a planapply state
It is JSON, but has no format_version. Name another place for the state: `state` in the
spec, or --state."""
    )


def test_terraform_state_is_recognized() -> None:
    assert refusal(b'{"version": 4, "terraform_version": "1.11.0"}') == snapshot("""\
demo.state.json is not a planapply state
It is Terraform's. Name another place for the state: `state` in the spec, or --state.\
""")


def test_many_problems_are_counted() -> None:
    document = json.loads(encode(state())) | {f"x{i}": 1 for i in range(8)}
    assert refusal(json.dumps(document).encode()).splitlines()[2:8] == snapshot(
        [
            "  x0: Extra inputs are not permitted",
            "  x1: Extra inputs are not permitted",
            "  x2: Extra inputs are not permitted",
            "  x3: Extra inputs are not permitted",
            "  x4: Extra inputs are not permitted",
            "  … and 3 more",
        ]
    )


@pytest.mark.parametrize("moment", ["1e300", "-1"])
def test_invalid_date_is_damage(moment: str) -> None:
    node = f'{{"vm": "i-1", "config": "c", "batch": "b", "launched_at": {moment}}}'
    document = f'{{"format_version": 1, "lineage": "l", "cluster": "c", "provider": "p", "nodes": {{"cpu-0": {node}}}}}'
    with pytest.raises(StateUnreadable, match=r"nodes\.cpu-0\.launched_at"):
        decode(document.encode(), "x.json")
