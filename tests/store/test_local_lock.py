"""The lock of a local state, between real processes."""

import contextlib
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from inline_snapshot import snapshot
from store.samples import format_error, format_lock_error, state

from planapply.store import LockInfo, StateConflict, StateError, StateLocked, Store, open_store

RACER = Path(__file__).with_name("racer.py")
ELSEWHERE = {"host": "elsewhere", "machine": "another", "boot": "another"}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state-home"))
    return open_store("demo.json")


@contextlib.contextmanager
def racer(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(RACER), *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def lines(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout
    return process.stdout


@contextlib.contextmanager
def holder() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Yield a running process that holds the lock of demo.json, and the lock's ID."""
    with racer("hold", "demo.json") as process:
        yield process, next(lines(process)).strip()


@pytest.mark.slow
def test_twenty_processes_take_turns_and_lose_nothing(store: Store) -> None:
    with contextlib.ExitStack() as stack:
        racers = [stack.enter_context(racer("count", "demo.json", "5")) for _ in range(20)]
        assert [process.wait() for process in racers] == [0] * 20
    final = store.read()
    assert final
    assert (final.serial, final.pins["n"]) == (100, 100)
    assert os.listdir() == ["demo.json"]


def test_threads_of_one_process_exclude_each_other(store: Store) -> None:
    store.write(state(0, pins={"n": 0}))

    def add() -> None:
        mine = open_store("demo.json")
        for _ in range(10):
            with mine.lock("count", timeout=60, wait=lambda _: threading.Event().wait(0.001)):
                current = mine.read()
                assert current
                current.serial += 1
                current.pins["n"] += 1
                mine.write(current)

    threads = [threading.Thread(target=add) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    final = store.read()
    assert final
    assert final.pins["n"] == 50


def test_lock_holder_is_reported(store: Store) -> None:
    with holder() as (process, lock_id):
        info = store.lock_info()
        assert info
        assert (info.id, info.pid, info.purpose) == (lock_id, process.pid, "apply")
        with pytest.raises(StateLocked) as raised, store.lock("plan"):
            pass
        assert raised.value.holder == info
        assert format_lock_error(raised.value, info) == snapshot("""\
the state demo.json is locked
WHO (process PID) has held lock ID since SINCE, for apply.
Wait with --lock-timeout; or stop that process: `kill PID`\
""")


def test_waiting_is_reported_once_and_ends_with_the_holder(store: Store) -> None:
    holders: list[LockInfo] = []
    waits: list[float] = []
    with holder() as (process, lock_id):

        def wait(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                process.kill()
                process.wait()

        with store.lock("apply", timeout=1000, wait=wait, on_wait=holders.append) as mine:
            assert mine.taken_over
            assert mine.taken_over.id == lock_id
            assert "taken_over" not in Path("demo.json.lock").read_text()
    assert [info.id for info in holders] == [lock_id]
    assert len(waits) >= 3
    assert os.listdir() == []


def test_waiting_ends_at_the_timeout(store: Store) -> None:
    waits: list[float] = []
    other = open_store("demo.json")
    with (
        store.lock("apply"),
        pytest.raises(StateLocked),
        other.lock("apply", 9, wait=waits.append),
    ):
        pass
    assert 0 < sum(waits) <= 9.001  # a sum of fractions


def test_killed_holder_leaves_no_lock(store: Store) -> None:
    with holder() as (process, lock_id):
        assert store.lock_info()
        process.kill()
        process.wait()
        assert "pid" in Path("demo.json.lock").read_text()
        assert store.lock_info() is None
        assert store.unlock(lock_id).id == lock_id
    assert os.listdir() == []


def test_holder_is_gone_if_its_process_id_was_reused(store: Store) -> None:
    with store.lock("apply"):
        info = store.lock_info()
        assert info
        assert not info.is_dead()
        before = info.model_copy(update={"started": info.started - 1})
        Path("demo.json.lock").write_bytes(before.encode())
        assert store.lock_info() is None


def test_watcher_is_waited_for_without_a_timeout(store: Store) -> None:
    waits: list[float] = []
    holders: list[LockInfo] = []
    other = open_store("demo.json")

    def lock(purpose: str, timeout: float) -> str:
        waits.clear()
        with (
            pytest.raises(StateLocked) as raised,
            other.lock(purpose, timeout, wait=waits.append, on_wait=holders.append),
        ):
            pass
        return str(raised.value).splitlines()[0]

    with store.lock("watch") as held:
        there = held.model_copy(update=ELSEWHERE)
        Path("demo.json.lock").write_bytes(there.encode())
        assert lock("apply", 0.0) == "the state demo.json is still locked after 60 s"
        assert 59.9 < sum(waits) < 60.1
        assert [holder.purpose for holder in holders] == ["watch"]
        assert lock("apply", 90.0) == "the state demo.json is still locked after 90 s"
        assert lock("watch", 0.0) == "the state demo.json is locked"
        assert not waits
        # Nothing else in a lock makes others wait.
        Path("demo.json.lock").write_bytes(there.model_copy(update={"purpose": "watch x"}).encode())
        assert lock("apply", 0.0) == "the state demo.json is locked"


def test_wait_ends_when_another_process_has_the_lock_after_the_watcher(store: Store) -> None:
    other = open_store("demo.json")
    with store.lock("watch") as held:
        there = held.model_copy(update=ELSEWHERE)
        Path("demo.json.lock").write_bytes(there.encode())

        def wait(seconds: float) -> None:
            applying = there.model_copy(update={"id": "apply", "purpose": "apply"})
            Path("demo.json.lock").write_bytes(applying.encode())

        with pytest.raises(StateLocked) as raised, other.lock("apply", wait=wait):
            pass
        assert raised.value.holder.purpose == "apply"


def test_running_holder_keeps_its_lock(store: Store) -> None:
    with holder() as (_, lock_id):
        info = store.lock_info()
        assert info
        with pytest.raises(StateError) as raised:
            store.unlock(lock_id)
        assert format_lock_error(raised.value, info) == snapshot("""\
cannot release lock ID: its process is running
WHO (process PID) has held lock ID since SINCE, for apply.
Stop the process, which releases the lock: `kill PID`\
""")
        with pytest.raises(StateError) as raised:
            store.unlock("00000000")
        assert format_lock_error(raised.value, info) == snapshot("""\
the state demo.json has no lock 00000000
WHO (process PID) has held lock ID since SINCE, for apply.\
""")


def test_nothing_to_unlock(store: Store) -> None:
    with pytest.raises(StateError) as raised:
        store.unlock("00000000")
    assert format_error(raised.value) == snapshot("""\
cannot release the lock on the state demo.json: it is not locked
Nothing needs to be done.\
""")
    Path("demo.json.lock").touch()  # Left by a process that was killed before it described itself.
    with pytest.raises(StateError) as raised:
        store.unlock("00000000")
    assert format_error(raised.value) == snapshot("""\
the state demo.json has no lock 00000000
The lock holder is unknown.\
""")
    with store.lock("apply") as lock:
        assert lock.taken_over is None
    assert os.listdir() == []


def test_lock_of_another_machine_can_be_released(store: Store) -> None:
    with store.lock("apply") as mine:
        # The lock as another machine sees it, which does not know whether this process is running.
        there = mine.model_copy(update={**ELSEWHERE, "who": "ana@elsewhere"})
        Path("demo.json.lock").write_bytes(there.encode())
        other = open_store("demo.json")
        with pytest.raises(StateLocked) as raised, other.lock("apply"):
            pass
        assert format_lock_error(raised.value, there) == snapshot("""\
the state demo.json is locked
WHO (process PID) has held lock ID since SINCE, for apply.
Wait with --lock-timeout; or release the lock, if that process no longer exists:
  planapply unlock ID --state demo.json\
""")
        other.unlock(mine.id)
        with other.lock("apply") as theirs:
            with pytest.raises(StateConflict, match="Another process released this process's lock"):
                store.write(state(1))
            other.write(state(1))
            info = store.lock_info()
            assert info
            assert info.id == theirs.id
    # Each process released its own lock only.
    assert sorted(os.listdir()) == ["demo.json", "demo.unsaved-1.json"]


def test_lock_of_another_machine_is_not_taken_over(store: Store) -> None:
    info = LockInfo.of_this_process("12ab", "apply")
    there = info.model_copy(update={**ELSEWHERE, "who": "ana@elsewhere"})
    Path("demo.json.lock").write_bytes(there.encode())
    with pytest.raises(StateLocked) as raised, store.lock("apply"):
        pass
    assert format_lock_error(raised.value, there) == snapshot("""\
the state demo.json is locked
WHO (process PID) has held lock ID since SINCE, for apply.
Wait with --lock-timeout; or release the lock, if that process no longer exists:
  planapply unlock ID --state demo.json\
""")
    assert store.lock_info() == there
    store.unlock("12ab")
    with store.lock("apply") as lock:
        assert lock.taken_over is None


def test_locking_twice_raises_instead_of_deadlocking(store: Store) -> None:
    with store.lock("apply"):
        with pytest.raises(StateLocked, match="The holder is this process"), store.lock("apply"):
            pass
        store.write(state(1))


def test_error_releases_the_lock(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.lock("apply"):
        _ = 1 / 0
    assert os.listdir() == []


@pytest.mark.slow
def test_kill_during_a_write_leaves_a_complete_state(store: Store) -> None:
    seed = random.Random(4)
    for _ in range(20):
        with racer("write", "demo.json") as process:
            output = lines(process)
            printed = [next(output) for _ in range(seed.randrange(1, 12))]
            # Kill it at a random moment, which is mostly in the middle of a write.
            for _ in range(seed.randrange(30_000)):
                pass
            process.kill()
            printed += output
        # The last line may be incomplete.
        whole = [line.split() for line in printed if "written " in line]
        durable = max((int(words[1]) for words in whole if len(words) == 2), default=0)
        found = store.read()
        assert found
        assert found.serial >= durable
        assert found.pins["filler"] == str(found.serial) * 20_000
    with store.lock("apply") as lock:
        assert lock.taken_over
        store.write(state(found.serial + 1))
    assert os.listdir() == ["demo.json"]
