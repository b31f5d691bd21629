"""A lock holder that has exited: decided by machine, boot, process ID, and start time."""

import json
import os
import subprocess
import sys
from typing import Any

import psutil
import pytest

from planapply.store import LockInfo, lockinfo
from planapply.store.processes import Host, start_time, this_host

HERE = Host("m" * 32, "b" * 32, "pid:[1]")
NO_SUCH_PROCESS = 2**22 + 1  # more than Linux's maximum


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose identity is known, whatever this one is."""
    monkeypatch.setattr(lockinfo, "this_host", lambda: HERE)
    monkeypatch.setattr(lockinfo.platform, "node", lambda: "here")


def holder(**changes: Any) -> LockInfo:
    """Return the description of a process of `HERE` that is dead; `changes` replace some of its fields."""
    info = LockInfo.of_this_process("12ab", "apply")
    return info.model_copy(update={"pid": NO_SUCH_PROCESS, "started": 5, **changes})


@pytest.mark.parametrize(
    ("changes", "is_dead"),
    [
        ({}, True),
        ({"pid": os.getpid()}, True),  # the ID of a process that started at another time
        ({"pid": os.getpid(), "started": start_time(os.getpid())}, False),
        ({"pid": os.getpid(), "started": 0}, False),
        ({"pid": 0}, False),
        ({"host": "renamed"}, True),
        ({"machine": ""}, True),
        ({"boot": "another"}, True),
        ({"boot": "another", "pid": os.getpid()}, True),
        ({"boot": "another", "machine": "another"}, False),
        ({"boot": "another", "machine": ""}, False),
        ({"boot": "another", "host": "a copy of this machine"}, False),
        ({"pids": "pid:[2]"}, False),  # another container
        ({"pids": "pid:[2]", "boot": "another", "host": "elsewhere"}, False),
        ({"pids": ""}, False),
    ],
)
def test_holder_of_this_version(changes: dict[str, Any], is_dead: bool) -> None:
    info = holder(**changes)
    assert info.is_dead() == info.can_be_taken_over() == is_dead


def test_holder_of_an_older_version_is_known_by_its_host_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = {"machine": "", "boot": "", "pids": "", "started": 0}
    assert holder(**old).is_dead()
    assert not holder(**old).can_be_taken_over()
    assert not holder(**old, host="elsewhere").is_dead()
    mine = {**old, "pid": os.getpid()}
    assert not holder(**mine).is_dead()
    assert holder(**mine, created="2001-01-01T00:00:00+00:00").is_dead()
    # On macOS, no boot can be recognized.
    dead = holder()
    monkeypatch.setattr(lockinfo, "this_host", lambda: Host("", "", ""))
    assert not dead.can_be_taken_over()
    assert LockInfo.of_this_process("12ab", "apply").boot == ""


def test_container_without_a_machine_id_recognizes_no_other_boot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lockinfo, "this_host", lambda: HERE._replace(machine=""))
    assert holder().is_dead()
    assert not holder(boot="another").is_dead()


@pytest.mark.parametrize(
    ("changes", "is_local"),
    [
        ({}, True),
        ({"host": "renamed"}, True),
        ({"host": "renamed", "pids": "pid:[2]"}, False),
        ({"pids": "pid:[2]"}, True),
        ({"boot": "another"}, True),
        ({"boot": "another", "machine": "another"}, False),  # another machine of the same name
        ({"boot": "", "machine": ""}, True),
        ({"boot": "", "machine": "", "host": "elsewhere"}, False),
    ],
)
def test_machine_of_the_holder(changes: dict[str, Any], is_local: bool) -> None:
    assert holder(**changes).is_local == is_local


def test_this_process() -> None:
    mine = LockInfo.of_this_process("12ab", "apply")
    assert mine.is_this_process
    assert not mine.is_dead()
    assert not mine.model_copy(update={"pids": "pid:[2]"}).is_this_process


@pytest.mark.parametrize(
    "fields",
    [
        {"started": "5"},
        {"started": -5},
        {"started": 1.5},
        {"started": 2**70},
        {"started": True},
        {"pid": 2**40},
        {"boot": "x\ny" * 500, "machine": "", "pids": "?"},
    ],
)
def test_malformed_fields_make_no_process_dead(fields: dict[str, Any]) -> None:
    document = {**json.loads(LockInfo.of_this_process("12ab", "apply").encode()), **fields}
    parsed = LockInfo.parse(json.dumps(document).encode())
    assert parsed is not None
    assert not parsed.can_be_taken_over()
    assert parsed.boot.isprintable()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_start_times_of_processes() -> None:
    assert start_time(NO_SUCH_PROCESS) == 0
    ticks = os.sysconf("SC_CLK_TCK")
    mine = start_time(os.getpid())
    assert mine
    age = psutil.boot_time() + mine / ticks - psutil.Process().create_time()
    assert abs(age) < 2
    assert start_time(1) not in (None, 0)  # another user's
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert start_time(process.pid) == 0  # it has exited, and nothing has read its exit code yet


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_identity_of_this_machine_is_a_digest() -> None:
    host = this_host()
    with open("/proc/sys/kernel/random/boot_id") as file:
        assert file.read().strip().replace("-", "") not in host.boot
    assert len(host.boot) == 32
    assert host.pids.startswith("pid:[")
