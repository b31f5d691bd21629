"""The encoding of states."""

import json
from typing import Any

import pytest
from hypothesis import given
from inline_snapshot import snapshot
from store.samples import format_error, state, states

from planapply.model.state import FORMAT_VERSION, State
from planapply.store.codec import MIGRATIONS, decode, encode
from planapply.store.errors import StateUnreadable
from planapply.version import __version__


def refusal(data: bytes, **options: Any) -> str:
    with pytest.raises(StateUnreadable) as raised:
        decode(data, "demo.state.json", **options)
    return format_error(raised.value)


@given(states)
def test_state_round_trips(original: State) -> None:
    data = encode(original)
    # NaN does not equal itself, so compare the encoded states.
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
 "format_version": 2,
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
    migrations = {0: rename, **MIGRATIONS}
    migrated = decode(older, "", migrations)
    assert (migrated.cluster, migrated.format_version) == ("demo", FORMAT_VERSION)
    oldest = older.replace(b": 0", b": -1")
    assert refusal(oldest, migrations=migrations) == snapshot("""\
cannot read the state demo.state.json
No version of planapply writes format_version -1.
The file is unchanged. Replace it with a good copy; or move it away, and rebuild the state
from the VMs' tags with `planapply recover`.\
""")


def test_intents_of_format_1_are_migrated() -> None:
    intent = {
        "names": ["cpu-0"],
        "config": "c",
        "choice": {},
        "scheduler": "tcp://a:1",
        "asked_at": 5.0,
    }
    older = {
        "format_version": 1,
        "lineage": "l",
        "serial": 3,
        "cluster": "demo",
        "provider": "local",
        "intents": {"t": intent, "u": {**intent, "scheduler": None}},
    }
    migrated = decode(json.dumps(older).encode(), "")
    assert (migrated.format_version, migrated.serial) == (FORMAT_VERSION, 3)
    found = [(i.scheduler_address, i.requested_at) for i in migrated.intents.values()]
    assert found == [("tcp://a:1", 5.0), (None, 5.0)]
    assert decode(encode(migrated), "") == migrated


@pytest.mark.parametrize("intents", [[], {"t": 1}])
def test_damaged_intents_of_format_1_are_reported(intents: Any) -> None:
    older = {
        "format_version": 1,
        "lineage": "l",
        "cluster": "d",
        "provider": "p",
        "intents": intents,
    }
    with pytest.raises(StateUnreadable, match="intents"):
        decode(json.dumps(older).encode(), "x.json")


def test_newer_format_is_refused() -> None:
    newer = json.loads(encode(state(planapply_version="9.1"))) | {
        "format_version": FORMAT_VERSION + 1
    }
    assert refusal(json.dumps(newer).encode()) == snapshot("""\
cannot read the state demo.state.json: it was written by a newer planapply
The state has format 3 (planapply 9.1); this planapply supports up to format 2. Upgrade
planapply:
  pip install --upgrade planapply\
""")


@pytest.mark.parametrize("writer", ["0.1.1", "0.2", "1.0.0rc1", "12.3.4"])
def test_newer_version_of_the_same_format_is_no_damage(writer: str) -> None:
    newer = json.loads(encode(state(planapply_version=writer))) | {"nodes": {"a": {"later": 1}}}
    assert refusal(json.dumps(newer).encode()).splitlines()[:3] == [
        "cannot read the state demo.state.json: it was written by a newer planapply",
        f"It was written by planapply {writer}. This is planapply {__version__}. Upgrade planapply:",
        "  pip install --upgrade planapply",
    ]


@pytest.mark.parametrize("writer", ["0.1.0", "0.0.9", "", "unknown", "x.y"])
def test_unknown_keys_are_no_damage(writer: str) -> None:
    newer = json.loads(encode(state(planapply_version=writer))) | {"later": 1, "also": {}}
    assert "It has unknown keys: also, later." in refusal(json.dumps(newer).encode()).replace(
        "later, also", "also, later"
    )
    damaged = newer | {"nodes": 1}
    assert "It is JSON, but not a valid state:" in refusal(json.dumps(damaged).encode())


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b" \n", "It is empty."),
        (
            encode(state())[:60],
            "It is truncated (60 bytes): EOF while parsing an object at line 4 column 10.",
        ),
        (
            encode(state()).replace(b'"serial": 1,', b'"serial" 1,'),
            "It is damaged, or not JSON (135 bytes): expected `:` at line 5 column 11.",
        ),
        (
            b"\0" * 4096,
            "It is damaged, or not JSON (4096 bytes): expected value at line 1 column 1.",
        ),
        (
            b"[" * 999,
            "It is damaged, or not JSON (999 bytes): recursion limit exceeded at line 1 column 202.",
        ),
    ],
    ids=["empty", "truncated", "damaged", "zeros", "deep"],
)
def test_damage_is_reported_with_its_position(data: bytes, problem: str) -> None:
    assert refusal(data).splitlines()[:2] == ["cannot read the state demo.state.json", problem]


def test_invalid_values_are_named_and_never_printed() -> None:
    document = json.loads(encode(state())) | {
        "serial": "x",
        "tls": {"certificate": "c", "key": ["SECRET"]},
        "extra": "SECRET",
    }
    assert refusal(json.dumps(document).encode()) == snapshot("""\
cannot read the state demo.state.json
It is JSON, but not a valid state:
  serial: must be a whole number
  tls.key: must be a string
  extra: is not a known key
The file is unchanged. Replace it with a good copy; or move it away, and rebuild the state
from the VMs' tags with `planapply recover`.\
""")


@pytest.mark.parametrize(
    "data",
    [
        b'{"format_version": "1"}',
        b'{"format_version": true}',
        b"[1, 2]",
        encode(state()).replace(b'"format_version": 2,', b""),
    ],
)
def test_foreign_json_is_refused(data: bytes) -> None:
    assert (
        refusal(data)
        == """\
demo.state.json is not a planapply state
It is JSON, but has no format_version. Use another location for the state: `state` in the
spec, or --state."""
    )


def test_terraform_state_is_recognized() -> None:
    assert refusal(b'{"version": 4, "terraform_version": "1.11.0"}') == snapshot("""\
demo.state.json is not a planapply state
It is a Terraform state. Use another location for the state: `state` in the spec, or
--state.\
""")


def test_many_problems_are_counted() -> None:
    document = json.loads(encode(state())) | {"nodes": 1} | {f"x{i}": 1 for i in range(8)}
    assert refusal(json.dumps(document).encode()).splitlines()[2:8] == snapshot(
        [
            "  nodes: must be a table",
            "  x0: is not a known key",
            "  x1: is not a known key",
            "  x2: is not a known key",
            "  x3: is not a known key",
            "  … and 4 more",
        ]
    )


@pytest.mark.parametrize("moment", ["1e300", "-1"])
def test_invalid_date_is_damage(moment: str) -> None:
    node = f'{{"vm": "i-1", "config": "c", "batch": "b", "launched_at": {moment}}}'
    document = f'{{"format_version": 1, "lineage": "l", "cluster": "c", "provider": "p", "nodes": {{"cpu-0": {node}}}}}'
    with pytest.raises(StateUnreadable, match=r"nodes\.cpu-0\.launched_at"):
        decode(document.encode(), "x.json")


FORGED = "cpu-0\nError: all VMs are gone"


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        ({"endpoint": {"private": ""}}, "endpoint.private: must be an address such as tls:"),
        (
            {"endpoint": {"private": "tls://a:1", "public": "tls://h:1; rm -rf ~"}},
            "endpoint.public: must be an address",
        ),
        ({"endpoint": {"private": "tcp://h:65536"}}, "endpoint.private: must be an address"),
        ({"endpoint": {"private": "inproc://h:1"}}, "endpoint.private: must be an address"),
        (
            {"endpoint": {"private": "tls://h:1", "dashboard": "javascript:alert(1)"}},
            "endpoint.dashboard: must be an address such as http://",
        ),
        (
            {"nodes": {FORGED: {}}},
            '  nodes."cpu-0\\nError: all VMs are gone": is not the name of a',
        ),
        ({"nodes": {"cpu-x": {}}}, "nodes.cpu-x: is not the name of a node"),
        ({"nodes": {"cpu-0": {"vm": FORGED}}}, "nodes.cpu-0.vm: must contain no control char"),
        ({"nodes": {"cpu-0": {"vm": ""}}}, "nodes.cpu-0.vm: must be non-empty"),
        (
            {"nodes": {"cpu-0": {"private_address": ""}}},
            "nodes.cpu-0.private_address: must be an IP address or a host name",
        ),
        (
            {"nodes": {"cpu-0": {"public_address": "u@h"}}},
            "nodes.cpu-0.public_address: must be an IP address",
        ),
        ({"nodes": {"cpu-0": {"port": 0}}}, "nodes.cpu-0.port: must be at least 1"),
        ({"nodes": {"cpu-0": {"zone": FORGED}}}, "nodes.cpu-0.zone: must contain no control"),
        ({"intents": {"t": {"names": ["\x1b[2J"]}}}, "intents.t.names.0: is not the name"),
        (
            {"intents": {"t": {"scheduler_address": "h"}}},
            "intents.t.scheduler_address: must be an address",
        ),
        ({"spec": {"workers": []}}, "spec: must have tables only"),
        ({"spec": {"workers": {"cpu": "x"}}}, "spec: must have tables only"),
        ({"spec": {"cluster": None}}, "spec: must have tables only"),
        (
            {"resources": {"x": {"kind": "k", "detail": {"ports": ["env:X"]}}}},
            "resources.x.detail: must have a list of numbers as `ports`",
        ),
        (
            {"resources": {"x": {"kind": "k", "detail": {"ports": 8786}}}},
            "resources.x.detail: must have a list of numbers as `ports`",
        ),
        (
            {"resources": {"x": {"kind": "k", "detail": {"allow_from": [FORGED]}}}},
            "resources.x.detail: must have lists of networks",
        ),
        (
            {"resources": {"x": {"kind": "k", "detail": {"allowed": [[]]}}}},
            "resources.x.detail: must have lists of networks",
        ),
        (
            {"resources": {"x": {"kind": "k", "detail": {"me": 1}}}},
            "resources.x.detail: must have a network as `me`",
        ),
        ({"cluster": FORGED}, "cluster: must contain no control characters"),
        ({"lineage": FORGED}, "lineage: must contain no control characters"),
        ({"resources": {"x": {"kind": "k", "id": FORGED}}}, "resources.x.id: must contain no"),
        ({"cloud": {"region": FORGED}}, "cloud.region: must contain no control characters"),
    ],
)
def test_values_that_planapply_does_not_write_are_refused(
    part: dict[str, Any], problem: str
) -> None:
    node = {"vm": "i-1", "config": "c", "batch": "b"}
    intent = {"names": [], "config": "c", "choice": {}, "requested_at": 1.0}
    document = json.loads(encode(state())) | part
    document["nodes"] = {k: node | v for k, v in document.get("nodes", {}).items()}
    document["intents"] = {k: intent | v for k, v in document.get("intents", {}).items()}
    with pytest.raises(StateUnreadable) as raised:
        decode(json.dumps(document).encode(), "demo.state.json")
    assert problem in str(raised.value)
    assert str(raised.value).count("\n  ") == 1


def test_long_key_is_shortened() -> None:
    document = json.loads(encode(state())) | {"nodes": {"x" * 100_000: {}}}
    assert len(refusal(json.dumps(document).encode())) < 1000
