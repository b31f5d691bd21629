"""A state in a bucket: the lab's S3, and Google and Azure as documented."""

import contextlib
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest
from inline_snapshot import snapshot
from lab.honest import Cloud
from store import blobs
from store.samples import format_error, format_lock_error, state

from planapply.store import (
    LockInfo,
    StateConflict,
    StateError,
    StateLocked,
    StateUnreadable,
    StateWriteError,
    Store,
    open_store,
    processes,
)
from planapply.store.bucket import Bucket, open_bucket
from planapply.store.remote import RemoteBackend

RACER = Path(__file__).with_name("racer.py")
PLACE = "s3://states/team/demo.json"
linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="elsewhere, nothing identifies a boot"
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state-home"))
    return tmp_path / "here"


@pytest.fixture
def store(aws: Cloud) -> Store:
    """A store whose bucket exists and is empty."""
    urllib.request.urlopen(urllib.request.Request(f"{aws.url}/states", b"", method="PUT")).close()
    return open_store(PLACE)


def bucket() -> Bucket:
    """Open the bucket without a store, like another program."""
    return open_bucket("s3", "states", PLACE)


def keys(aws: Cloud) -> list[str]:
    with urllib.request.urlopen(f"{aws.url}/states") as answer:
        text = answer.read().decode()
    return [part.partition("</Key>")[0] for part in text.split("<Key>")[1:]]


def test_state_is_created_written_read_and_locked(aws: Cloud, store: Store) -> None:
    assert store.read() is None
    assert store.lock_info() is None
    with store.lock("apply") as lock:
        store.write(state(1))
        store.write(state(2))
        assert keys(aws) == ["team/demo.json", "team/demo.json.lock"]
        assert store.lock_info() == lock
    other = open_store(PLACE)
    assert other.read() == state(2)
    other.write(state(3))
    assert open_store(PLACE).read() == state(3)
    assert keys(aws) == ["team/demo.json"]


def test_large_state_is_written_in_one_request(aws: Cloud, store: Store) -> None:
    large = state(1, pins={"filler": "x" * 12_000_000})
    store.write(large)
    assert store.read() == large
    assert not [action for action in aws.counts()["actions"] if "Multipart" in action]


@pytest.mark.slow
def test_twenty_processes_take_turns_and_lose_nothing(store: Store) -> None:
    racers = [
        subprocess.Popen([sys.executable, str(RACER), "count", PLACE, "1"]) for _ in range(20)
    ]
    try:
        assert [process.wait() for process in racers] == [0] * 20
    finally:
        for process in racers:
            process.kill()
            process.wait()
    final = store.read()
    assert final
    assert (final.serial, final.pins["n"]) == (20, 20)
    assert store.lock_info() is None


def test_lock_holder_is_reported_and_its_lock_can_be_released(aws: Cloud, store: Store) -> None:
    other = open_store(PLACE)
    with store.lock("apply") as mine:
        with pytest.raises(StateLocked) as raised, other.lock("plan"):
            pass
        assert raised.value.holder == mine
        assert format_lock_error(raised.value, mine) == snapshot("""\
the state s3://states/team/demo.json is locked
WHO (process PID) has held lock ID since SINCE, for apply.
Wait with --lock-timeout; or release the lock, if that process no longer exists:
  planapply unlock ID --state s3://states/team/demo.json\
""")
        with pytest.raises(StateError) as refused:
            other.unlock("00000000")
        assert format_error(refused.value).splitlines()[0] == (
            "the state s3://states/team/demo.json has no lock 00000000"
        )
        assert other.unlock(mine.id) == mine
        with other.lock("destroy") as theirs:
            with pytest.raises(StateConflict) as conflict:
                store.write(state(1))
            other.write(state(1))
            assert store.lock_info() == theirs
        assert format_error(conflict.value, ID=mine.id, HERE=os.getcwd()) == snapshot("""\
the state s3://states/team/demo.json was changed by another process
Another process released this process's lock ID. It was not overwritten, and no further
cloud requests will be made.
Run `planapply plan`: it finds VMs that are missing from the state by their tags.
The new version was saved to HERE/demo.unsaved-1.json\
""")
    assert keys(aws) == ["team/demo.json"]
    with pytest.raises(StateError) as caught_nothing:
        store.unlock(mine.id)
    assert format_error(caught_nothing.value) == snapshot("""\
cannot release the lock on the state s3://states/team/demo.json: it is not locked
Nothing needs to be done.\
""")


def test_release_keeps_the_lock_of_another_process(store: Store) -> None:
    other = open_store(PLACE)
    with contextlib.ExitStack() as stack:
        with store.lock("apply") as mine:
            other.unlock(mine.id)
            theirs = stack.enter_context(other.lock("destroy"))
        assert store.lock_info() == theirs


def leave_lock(info: LockInfo) -> None:
    obstore.put(bucket(), "team/demo.json.lock", info.encode())


def dead_holder(**changes: object) -> LockInfo:
    """Return the holder of a process of this machine that has exited."""
    info = LockInfo.of_this_process("dead", "apply")
    return info.model_copy(update={"pid": 2**22 + 1, **changes})


@pytest.fixture
def machine_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give this machine an ID: a container may have none."""
    path = tmp_path / "machine-id"
    path.write_text("0123456789abcdef0123456789abcdef\n")
    monkeypatch.setattr(processes, "_MACHINE_ID_FILES", (str(path),))
    processes._read_host.cache_clear()
    yield
    processes._read_host.cache_clear()


@linux
@pytest.mark.usefixtures("machine_id")
@pytest.mark.parametrize("changes", [{}, {"boot": "another"}])
def test_lock_of_a_dead_process_is_taken_over(
    aws: Cloud, store: Store, changes: dict[str, object]
) -> None:
    dead = dead_holder(**changes)
    leave_lock(dead)
    assert store.lock_info() is None
    with store.lock("apply") as lock:
        assert lock.taken_over == dead
        holder = store.lock_info()
        assert holder
        assert (holder.id, holder.taken_over) == (lock.id, None)
        store.write(state(1))
    assert keys(aws) == ["team/demo.json"]


@linux
def test_lock_of_a_killed_process_is_taken_over(aws: Cloud, store: Store) -> None:
    with subprocess.Popen(
        [sys.executable, str(RACER), "hold", PLACE], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        lock_id = process.stdout.readline().strip()
        with pytest.raises(StateLocked), store.lock("plan"):
            pass
        process.kill()
        process.wait()
        with store.lock("apply") as lock:
            assert lock.taken_over
            assert lock.taken_over.id == lock_id


@linux
@pytest.mark.parametrize("lost", ["before", "after"])
@pytest.mark.parametrize("at", [1, 2])
def test_lock_is_taken_over_although_a_response_is_lost(
    aws: Cloud, store: Store, lost: str, at: int
) -> None:
    leave_lock(dead_holder())
    aws.fault("s3:PutObject", lost=lost, at=at)
    with store.lock("apply") as lock:
        assert lock.taken_over
        assert store.lock_info() == lock.model_copy(update={"taken_over": None})


@linux
def test_one_process_takes_over_a_lock(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_lock(dead_holder())
    with contextlib.ExitStack() as stack:
        real, taken = RemoteBackend._find_lock, []

        def find(backend: RemoteBackend) -> object:
            found = real(backend)
            if not taken:  # another process takes the lock over between reading and writing
                taken.append(True)
                taken.append(stack.enter_context(open_store(PLACE).lock("destroy")))
            return found

        monkeypatch.setattr(RemoteBackend, "_find_lock", find)
        with pytest.raises(StateLocked) as raised, store.lock("apply"):
            pass
        monkeypatch.undo()
        assert raised.value.holder.id == taken[1].id
        assert store.lock_info() == raised.value.holder


@linux
def test_lock_that_is_released_during_the_takeover_is_taken(
    aws: Cloud, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = dead_holder()
    leave_lock(dead)
    real = RemoteBackend._find_lock

    def find(backend: RemoteBackend) -> object:
        found = real(backend)
        if found[0] == dead:
            obstore.delete(bucket(), "team/demo.json.lock")
        return found

    monkeypatch.setattr(RemoteBackend, "_find_lock", find)
    with store.lock("apply") as lock:
        assert lock.taken_over is None
        store.write(state(1))
    assert keys(aws) == ["team/demo.json"]


@pytest.mark.parametrize(
    "changes",
    [
        {"boot": "another", "machine": "another"},
        {"boot": "another", "host": "elsewhere"},
        {"pids": "pid:[2]"},
        {"pid": 0},
    ],
)
def test_lock_of_another_machine_stays(store: Store, changes: dict[str, object]) -> None:
    left = dead_holder(**changes)
    leave_lock(left)
    with pytest.raises(StateLocked) as raised, store.lock("apply"):
        pass
    assert raised.value.holder == store.lock_info() == left
    assert "planapply unlock dead" in str(raised.value)
    store.unlock("dead")
    with store.lock("apply") as lock:
        assert lock.taken_over is None


def test_dead_holder_of_an_older_version_is_reported(aws: Cloud, store: Store) -> None:
    with store.lock("apply") as lock:
        old = {"machine": "", "boot": "", "pids": "", "started": 0}
        dead = lock.model_copy(update={**old, "created": "2001-01-01T00:00:00+00:00"})
        leave_lock(dead)
        with pytest.raises(StateLocked) as raised, open_store(PLACE).lock("plan"):
            pass
    assert format_lock_error(raised.value, dead) == snapshot("""\
the state s3://states/team/demo.json is locked
WHO (process PID) has held lock ID since SINCE, for apply.
That process no longer exists. Release its lock:
  planapply unlock ID --state s3://states/team/demo.json\
""")


def test_second_writer_is_refused_and_its_state_is_saved(here: Path, store: Store) -> None:
    store.write(state(1))
    other = open_store(PLACE)
    other.read()
    other.write(state(2))
    with pytest.raises(StateConflict, match="Another process wrote it"):
        store.write(state(2, pins={"mine": 1}))
    with pytest.raises(StateConflict, match="Another process wrote it"):
        open_store(PLACE).write(state(1))
    assert store.read() == state(2)
    assert open_store("demo.unsaved-2.json").read() == state(2, pins={"mine": 1})


def test_deleted_state_is_not_recreated(aws: Cloud, store: Store) -> None:
    store.write(state(1))
    obstore.delete(bucket(), "team/demo.json")
    with pytest.raises(StateConflict, match="It was deleted after it was read"):
        store.write(state(2))
    assert keys(aws) == []


def test_unreadable_state_is_never_overwritten(aws: Cloud, store: Store) -> None:
    obstore.put(bucket(), "team/demo.json", b"<html>")
    with pytest.raises(StateUnreadable):
        store.read()
    with pytest.raises(StateConflict):
        store.write(state(1))


@pytest.mark.parametrize("lost", ["before", "after"])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_lost_response_is_no_conflict(aws: Cloud, store: Store, lost: str, at: int) -> None:
    # The first PutObject is the lock, the second creates the state, the third replaces it.
    aws.fault("s3:PutObject", lost=lost, at=at)
    with store.lock("apply") as lock:
        assert store.lock_info() == lock
        store.write(state(1))
        store.write(state(2))
    assert open_store(PLACE).read() == state(2)
    assert keys(aws) == ["team/demo.json"]


def test_write_with_unknown_outcome_is_recognized_as_own(aws: Cloud, store: Store) -> None:
    store.write(state(1))
    with store.lock("apply"):
        aws.fault("s3:PutObject", lost="after")
        aws.fault("s3:GetObject", error="AccessDenied", status=403, at=2)
        with pytest.raises(StateWriteError):
            store.write(state(2))
        assert os.listdir() == ["demo.unsaved-2.json"]
        store.write(state(3))
    assert open_store(PLACE).read() == state(3)
    assert os.listdir() == []


def test_busy_key_is_retried(aws: Cloud, store: Store) -> None:
    aws.fault("s3:PutObject", error="ConditionalRequestConflict", status=409)
    with store.lock("apply"):
        aws.fault("s3:PutObject", error="ConditionalRequestConflict", status=409)
        store.write(state(1))
        aws.fault("s3:PutObject", error="PreconditionFailed", status=412)
        store.write(state(2))
    assert store.read() == state(2)


def refusals(aws: Cloud, store: Store, error: str, status: int) -> str:
    """Return the errors of reading, locking, and writing when every call fails with `error`."""
    store.write(state(1))
    with contextlib.ExitStack() as stack:
        stack.enter_context(store.lock("apply"))
        aws.fault("s3:*", error=error, status=status, times=None)
        with pytest.raises(StateError) as reading:
            open_store(PLACE).read()
        with pytest.raises(StateError) as locking, open_store(PLACE).lock("plan"):
            pass
        with pytest.raises(StateWriteError) as writing:
            store.write(state(2))
        aws.clear()
    assert open_store(PLACE).read() == state(1)
    assert open_store("demo.unsaved-2.json").read() == state(2)
    assert str(reading.value) == str(locking.value)
    return format_error(reading.value) + "\n" + format_error(writing.value, HERE=os.getcwd())


def test_missing_permission_is_reported(aws: Cloud, store: Store) -> None:
    assert refusals(aws, store, "AccessDenied", 403) == snapshot("""\
cannot reach the state s3://states/team/demo.json: access denied (403 AccessDenied)
Check which credentials are in use, and that they allow reading, writing, and deleting
s3://states/team/demo.json and s3://states/team/demo.json.lock.
cannot write the state s3://states/team/demo.json: access denied (403 AccessDenied)
Check which credentials are in use, and that they allow reading, writing, and deleting
s3://states/team/demo.json and s3://states/team/demo.json.lock.
The previous version is unchanged. The new version was saved to HERE/demo.unsaved-2.json
Fix the cause, then restore it:
  planapply state push HERE/demo.unsaved-2.json --state s3://states/team/demo.json\
""")


def test_expired_credentials_are_reported(aws: Cloud, store: Store) -> None:
    assert refusals(aws, store, "ExpiredToken", 400) == snapshot("""\
cannot reach the state s3://states/team/demo.json: access denied (400 ExpiredToken)
Check which credentials are in use, and that they allow reading, writing, and deleting
s3://states/team/demo.json and s3://states/team/demo.json.lock.
cannot write the state s3://states/team/demo.json: access denied (400 ExpiredToken)
Check which credentials are in use, and that they allow reading, writing, and deleting
s3://states/team/demo.json and s3://states/team/demo.json.lock.
The previous version is unchanged. The new version was saved to HERE/demo.unsaved-2.json
Fix the cause, then restore it:
  planapply state push HERE/demo.unsaved-2.json --state s3://states/team/demo.json\
""")


def test_bucket_in_another_region_is_reported(aws: Cloud, store: Store) -> None:
    assert refusals(aws, store, "PermanentRedirect", 301) == snapshot("""\
cannot reach the state s3://states/team/demo.json: the bucket is in another region
Set AWS_REGION to the bucket's region.
cannot write the state s3://states/team/demo.json: the bucket is in another region
Set AWS_REGION to the bucket's region.
The previous version is unchanged. The new version was saved to HERE/demo.unsaved-2.json
Fix the cause, then restore it:
  planapply state push HERE/demo.unsaved-2.json --state s3://states/team/demo.json\
""")


def test_deleted_bucket_is_reported(aws: Cloud, store: Store) -> None:
    assert refusals(aws, store, "NoSuchBucket", 404) == snapshot("""\
cannot reach the state s3://states/team/demo.json: s3://states does not exist (404
NoSuchBucket)
Create it, or choose another one.
cannot write the state s3://states/team/demo.json: s3://states does not exist (404
NoSuchBucket)
Create it, or choose another one.
The previous version is unchanged. The new version was saved to HERE/demo.unsaved-2.json
Fix the cause, then restore it:
  planapply state push HERE/demo.unsaved-2.json --state s3://states/team/demo.json\
""")


@pytest.mark.slow
def test_failing_bucket_is_reported(aws: Cloud, store: Store) -> None:
    assert refusals(aws, store, "InternalError", 500) == snapshot("""\
cannot reach the state s3://states/team/demo.json: the storage endpoint responded 500
InternalError
Try again later.
cannot write the state s3://states/team/demo.json: the storage endpoint responded 500
InternalError
Try again later.
The previous version is unchanged. The new version was saved to HERE/demo.unsaved-2.json
Fix the cause, then restore it:
  planapply state push HERE/demo.unsaved-2.json --state s3://states/team/demo.json\
""")


@pytest.mark.parametrize(
    ("error", "status"), [("OperationAborted", 409), ("PreconditionFailed", 412)]
)
def test_bucket_without_conditional_writes_is_reported(
    aws: Cloud, store: Store, error: str, status: int
) -> None:
    store.write(state(1))
    with store.lock("apply"):
        aws.fault("s3:PutObject", error=error, status=status, times=None)
        with pytest.raises(StateWriteError) as raised:
            store.write(state(2))
        aws.clear()
    assert str(raised.value).splitlines()[:2] == [
        f"cannot write the state {PLACE}: the storage endpoint responded {status} {error}",
        "Try again later.",
    ]
    aws.fault("s3:PutObject", error=error, status=status, times=None)
    with (
        pytest.raises(StateError, match=f"the storage endpoint responded {status} {error}"),
        store.lock("apply"),
    ):
        pass
    assert open_store(PLACE).read() == state(1)


def test_missing_bucket_is_reported(aws: Cloud) -> None:
    nowhere = open_store("s3://nowhere/demo.json")
    with pytest.raises(StateError) as raised:
        nowhere.read()
    assert format_error(raised.value) == snapshot("""\
cannot reach the state s3://nowhere/demo.json: s3://nowhere does not exist (404
NoSuchBucket)
Create it, or choose another one.\
""")
    with pytest.raises(StateError) as raised, nowhere.lock("apply"):
        pass
    assert format_error(raised.value).splitlines()[0] == snapshot(
        "cannot reach the state s3://nowhere/demo.json: s3://nowhere does not exist (404"
    )


def test_unreleased_lock_is_reported(aws: Cloud, store: Store) -> None:
    with pytest.raises(StateError) as raised, store.lock("apply") as lock:
        aws.fault("s3:POST", error="AccessDenied", status=403)
    assert format_error(raised.value, ID=lock.id) == snapshot("""\
the state s3://states/team/demo.json is still locked
cannot reach the state s3://states/team/demo.json: access denied (403 AccessDenied)
Fix the cause, then release the lock:
  planapply unlock ID --state s3://states/team/demo.json\
""")
    store.unlock(lock.id)


def test_unlock_command_is_printed_before_the_push_command(aws: Cloud, store: Store) -> None:
    store.write(state(1))
    aws.fault("s3:POST", error="AccessDenied", status=403)
    aws.fault("s3:PutObject", error="AccessDenied", status=403, at=2)  # the first takes the lock
    with pytest.raises(StateWriteError) as raised, store.lock("apply"):
        store.write(state(2))
    lock = store.lock_info()
    assert lock
    said = StateError(diagnostics=raised.value.diagnostics)
    assert format_error(said, ID=lock.id, HERE=os.getcwd()) == snapshot("""\
the state s3://states/team/demo.json is still locked
cannot reach the state s3://states/team/demo.json: access denied (403 AccessDenied)
Fix the cause, then release the lock:
  planapply unlock ID --state s3://states/team/demo.json
cannot write the state s3://states/team/demo.json: access denied (403 AccessDenied)
Check which credentials are in use, and that they allow reading, writing, and deleting
s3://states/team/demo.json and s3://states/team/demo.json.lock.
The previous version is unchanged. The new version was saved to HERE/demo.unsaved-2.json
Fix the cause, then restore it:
  planapply state push HERE/demo.unsaved-2.json --state s3://states/team/demo.json\
""")
    store.unlock(lock.id)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A loopback port that refuses connections: bound, never listening."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


def test_unreachable_endpoint_is_reported(
    aws: Cloud, store: Store, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:SECRET@127.0.0.1:{closed_port}")
    with pytest.raises(StateError) as raised:
        open_store(PLACE).read()
    assert format_error(raised.value, PORT=closed_port) == snapshot("""\
cannot reach the state s3://states/team/demo.json: no response from 127.0.0.1:PORT
Check the network, and try again.\
""")
    with pytest.raises(StateError) as raised, open_store(PLACE).lock("apply"):
        pass
    assert format_error(raised.value, PORT=closed_port).splitlines()[0] == snapshot(
        "cannot reach the state s3://states/team/demo.json: no response from 127.0.0.1:PORT"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ENDPOINT_URL", "localhost:9000"),
        ("AWS_ACCESS_KEY_ID", None),
        ("AWS_PROFILE", "missing"),
    ],
)
def test_invalid_environment_is_reported(
    aws: Cloud, name: str, value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    with pytest.raises(StateError) as raised:
        open_store(PLACE).read()
    assert (
        format_error(raised.value)
        == {
            "AWS_ENDPOINT_URL": snapshot("""\
AWS_ENDPOINT_URL is not a URL
Begin AWS_ENDPOINT_URL with http:// or https://, or unset it.\
"""),
            "AWS_ACCESS_KEY_ID": snapshot("""\
cannot reach the state s3://states/team/demo.json: no usable credentials
Log in as for the AWS command line: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY, or run `aws sso login`.\
"""),
            "AWS_PROFILE": snapshot("""\
cannot reach the state s3://states/team/demo.json: no usable credentials
The config profile (missing) could not be found
Log in as for the AWS command line: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY, or run `aws sso login`.\
"""),
        }[name]
    )


def test_region_is_read_from_the_profile(
    aws: Cloud, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text(
        "[profile lab]\nregion = eu-west-1\naws_access_key_id = lab\naws_secret_access_key = lab\n"
    )
    for variable in (
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
    ):
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    assert store.read() is None


@pytest.fixture(params=["gs", "az"])
def elsewhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The location of a state at Google or Azure."""
    with blobs.serve() as served:
        monkeypatch.setenv("GOOGLE_BASE_URL", served.url)
        monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "none")
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "lab")
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "bGFi")
        monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", f"{served.url}/lab")
        yield f"{request.param}://states/team/demo.json"


def test_google_and_azure(elsewhere: str) -> None:
    store, other = open_store(elsewhere), open_store(elsewhere)
    assert store.read() is None
    with store.lock("apply") as mine:
        store.write(state(1))
        assert other.read() == state(1)
        store.write(state(2))
        with pytest.raises(StateLocked, match=mine.id), other.lock("plan"):
            pass
    with pytest.raises(StateConflict):
        other.write(state(2, pins={"mine": 1}))
    with pytest.raises(StateConflict):
        open_store(elsewhere).write(state(1))
    assert other.lock_info() is None
    assert other.read() == state(2)
    other.write(state(3))
    assert store.read() == state(3)
