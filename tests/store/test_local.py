"""A state in a file: reading, writing, conflicts, and failures."""

import contextlib
import json
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from inline_snapshot import snapshot
from store.samples import format_error, state

from planapply.store import (
    StateConflict,
    StateError,
    StateUnreadable,
    StateWriteError,
    Store,
    open_store,
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, with homes elsewhere."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state-home"))
    return tmp_path / "here"


@pytest.fixture
def store(here: Path) -> Store:
    store = open_store("demo.json")
    store.write(state(1))
    return store


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_missing_state_reads_as_none(here: Path) -> None:
    store = open_store("demo.json")
    assert store.read() is None
    assert store.location == "demo.json"
    assert files(here) == []


def test_written_state_is_read_by_another_store(here: Path, store: Store) -> None:
    with store.lock("apply"):
        store.write(state(2))
        store.write(state(3))
    assert open_store("demo.json").read() == state(3)
    assert files(here) == ["demo.json"]
    assert stat.S_IMODE(os.stat("demo.json").st_mode) == 0o600


def test_symlink_is_kept_and_its_target_is_written(
    here: Path, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.json"
    link.symlink_to("../here/demo.json")
    linked = open_store(str(link))
    assert linked.read() == state(1)
    with linked.lock("apply"):
        assert files(here) == ["demo.json", "demo.json.lock"]
        linked.write(state(2))
    assert link.is_symlink()
    assert store.read() == state(2)


def test_home_folder_is_expanded(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    open_store("~/demo.json").write(state(1))
    assert (tmp_path / "demo.json").exists()


def test_second_writer_is_refused_and_its_state_is_saved(here: Path, store: Store) -> None:
    other = open_store("demo.json")
    other.read()
    other.write(state(2))
    with pytest.raises(StateConflict) as raised:
        store.write(state(2, pins={"mine": 1}))
    assert format_error(raised.value, HERE=here) == snapshot("""\
the state demo.json was changed by another process
Another process wrote it after it was read. It was not overwritten, and no further cloud
requests will be made.
Run `planapply plan`: it finds VMs that are missing from the state by their tags.
The new version was saved to HERE/demo.unsaved-2.json\
""")
    assert store.read() == state(2)
    assert open_store("demo.unsaved-2.json").read() == state(2, pins={"mine": 1})
    assert stat.S_IMODE(os.stat("demo.unsaved-2.json").st_mode) == 0o600


def test_creating_over_a_state_is_refused(store: Store) -> None:
    with pytest.raises(StateConflict):
        open_store("demo.json").write(state(1))


def test_deleted_state_is_not_recreated(here: Path, store: Store) -> None:
    os.unlink("demo.json")
    with pytest.raises(StateConflict, match="It was deleted after it was read"):
        store.write(state(2))
    assert files(here) == ["demo.unsaved-2.json"]


def test_unreadable_state_is_never_overwritten(store: Store) -> None:
    Path("demo.json").write_bytes(b'{"format_version": 1, "lin')
    with pytest.raises(StateUnreadable):
        store.read()
    with pytest.raises(StateConflict):
        store.write(state(2))
    assert Path("demo.json").read_bytes() == b'{"format_version": 1, "lin'


def test_changed_modification_time_is_no_conflict(store: Store) -> None:
    os.utime("demo.json", (1, 1))
    store.write(state(2))
    assert store.read() == state(2)


def test_leftover_temporary_file_is_replaced(here: Path, store: Store) -> None:
    Path("demo.json.tmp").write_bytes(b"half")
    store.write(state(2))
    assert files(here) == ["demo.json"]


def test_missing_folder_is_reported(here: Path) -> None:
    store = open_store("no/demo.json")
    assert store.read() is None
    with pytest.raises(StateError) as raised:
        store.write(state(1))
    assert format_error(raised.value, HERE=here) == snapshot("""\
cannot lock the state no/demo.json: its folder does not exist
Choose another location with `state` in the spec or --state, or create the folder:
  mkdir -p HERE/no\
""")


@pytest.mark.parametrize("what", ["folder", "pipe", "loop", "not a folder"])
def test_location_that_is_not_a_file_is_reported(here: Path, what: str) -> None:
    name = "thing"
    match what:
        case "folder":
            os.mkdir(name)
        case "pipe":
            os.mkfifo(name)
        case "loop":
            os.symlink(name, name)
        case _:
            Path("file").touch()
            name = "file/thing"
    store = open_store(name)
    with pytest.raises(StateUnreadable) as raised:
        store.read()
    assert (
        format_error(raised.value, HERE=here)
        == {
            "folder": snapshot("""\
cannot read the state thing: not a regular file
Choose another location with `state` in the spec, or with --state.\
"""),
            "pipe": snapshot("""\
cannot read the state thing: not a regular file
Choose another location with `state` in the spec, or with --state.\
"""),
            "loop": snapshot("""\
cannot read the state thing: Too many levels of symbolic links
Choose another location with `state` in the spec, or with --state.\
"""),
            "not a folder": snapshot("""\
cannot read the state file/thing: Not a directory
Choose another location with `state` in the spec, or with --state.\
"""),
        }[what]
    )


@pytest.mark.parametrize(
    "location",
    ["ftp://host/key", "s3://bucket", "s3://bucket/", "gs://b/a/../c", "az:///key", "", "a\0b"],
)
def test_invalid_location_is_reported(location: str) -> None:
    with pytest.raises(StateError) as raised:
        open_store(location)
    assert str(raised.value) == (
        f"{location!r} is not a valid location for a state\n"
        "Use a path, s3://bucket/key, gs://bucket/key or az://container/key."
    )


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let writes of more than `size` bytes to a file fail, as on a full disk; also for root."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk_without_any_fallback(here: Path, store: Store, tmp_path: Path) -> None:
    before = Path("demo.json").read_bytes()
    with store.lock("apply"), file_size_limit(64), pytest.raises(StateWriteError) as raised:
        store.write(state(2))
    assert format_error(raised.value) == snapshot("""\
cannot write the state demo.json: File too large
The previous version is unchanged. The new version could not be saved anywhere else. Fix
the cause. Run `planapply plan`: it finds VMs that are missing from the state by their
tags.\
""")
    assert Path("demo.json").read_bytes() == before
    assert files(here) == ["demo.json"]
    store.write(state(2))  # The same store works again when there is space.
    assert store.read() == state(2)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def mount(*arguments: str) -> None:
    if subprocess.run(["mount", *arguments], capture_output=True).returncode:
        pytest.skip("only root can mount; test_full_disk_without_any_fallback needs no mount")


def test_full_disk_is_reported(here: Path, small_disk: Path, tmp_path: Path) -> None:
    store = open_store(str(small_disk / "demo.json"))
    store.write(state(1))
    large = state(2, pins={"filler": "x" * 40_000})
    with store.lock("apply"):
        store.write(large)
        with pytest.raises(StateWriteError) as raised:
            store.write(state(3, pins=large.pins))
    assert format_error(raised.value, TMP=tmp_path) == snapshot("""\
cannot write the state TMP/small/demo.json: No space left on device
The previous version is unchanged. The new version was saved to
TMP/state-home/planapply/demo.unsaved-3.json
Fix the cause, then restore it:
  planapply state push TMP/state-home/planapply/demo.unsaved-3.json --state
TMP/small/demo.json\
""")
    saved = tmp_path / "state-home/planapply/demo.unsaved-3.json"
    assert open_store(str(saved)).read() == state(3, pins=large.pins)
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    assert store.read() == large
    # The next attempts keep at most one saved file, and none after a successful write.
    with store.lock("apply"):
        with pytest.raises(StateWriteError):
            store.write(state(4, pins=large.pins))
        assert files(saved.parent) == ["demo.unsaved-4.json"]
        subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
        store.write(state(5, pins=large.pins))
    assert files(saved.parent) == []
    assert store.read() == state(5, pins=large.pins)


def test_read_only_folder_is_reported(here: Path, store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "frozen"
    folder.mkdir()
    mount("--bind", "-o", "ro", str(here), str(folder))
    try:
        frozen = open_store(str(folder / "demo.json"))
        assert frozen.read() == state(1)
        with pytest.raises(StateError) as raised:
            frozen.write(state(2))
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    assert format_error(raised.value, FROZEN=folder) == snapshot("""\
cannot lock the state FROZEN/demo.json
Read-only file system: FROZEN/demo.json.lock\
""")


def test_unwritable_state_is_saved_next_to_it(here: Path, store: Store) -> None:
    os.mkdir("demo.json.tmp")
    with store.lock("apply"):
        with pytest.raises(StateWriteError) as raised:
            store.write(state(2))
        assert format_error(raised.value, HERE=here) == snapshot("""\
cannot write the state demo.json: Is a directory
The previous version is unchanged. The new version was saved to HERE/demo.unsaved-2.json
Fix the cause, then restore it:
  planapply state push HERE/demo.unsaved-2.json --state demo.json\
""")
        assert open_store("demo.unsaved-2.json").read() == state(2)
        with pytest.raises(StateWriteError):
            store.write(state(3))
        assert files(here) == [
            "demo.json",
            "demo.json.lock",
            "demo.json.tmp",
            "demo.unsaved-3.json",
        ]
        os.rmdir("demo.json.tmp")
        store.write(state(4))
    assert files(here) == ["demo.json"]
    assert store.read() == state(4)


def test_earlier_saved_file_is_kept(here: Path, store: Store) -> None:
    Path("demo.unsaved-2.json").write_text("precious")
    os.mkdir("demo.json.tmp")
    with pytest.raises(StateWriteError):
        store.write(state(2))
    assert Path("demo.unsaved-2.json").read_text() == "precious"
    assert len(files(here)) == 4


def test_local_state_imports_little() -> None:
    program = """
import sys
from planapply.store import open_store
store = open_store("demo.json")
with store.lock("plan"):
    store.read()
slow = {"asyncio", "obstore", "boto3", "cryptography", "psutil", "platformdirs", "distributed"}
print(*sorted(slow & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("\n", "")


def test_state_file_is_json(store: Store) -> None:
    assert json.loads(Path("demo.json").read_text())["serial"] == 1


def test_next_lock_removes_files_of_a_killed_writer(here: Path, store: Store) -> None:
    (here / f"{store.location}.tmp").write_text("half a state, and half a key")
    with store.lock("apply"):
        assert not (here / f"{store.location}.tmp").exists()
