"""Locks of earlier code: a live holder is waited for, a dead one's lock is taken over or broken."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
from cli.commands import Run
from compat.kept import BUCKET, FIXTURES, LOCK, SPEC, STATE, of_this_machine, revived

KEPT = (FIXTURES / "ec2-full" / "workers-made.lock").read_bytes()
KEY = "plain.json.lock"
# What earlier code did with a lock: flock, write, and keep it open until the end.
HOLD = """
import fcntl, os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
os.pwrite(file, sys.argv[2].replace("PID", str(os.getpid())).encode(), 0)
print(flush=True)
sys.stdin.read()
"""


@contextmanager
def held(path: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process holds the lock as earlier code did; when the block ends, it is killed."""
    # Since when: a lock that is older than its process was another process's.
    created = datetime.now(UTC).isoformat(timespec="seconds")
    lock = of_this_machine(KEPT, pid="PID", created=created).decode().replace('"PID"', "PID")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, path, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process
        finally:
            process.kill()


def test_a_live_holder_of_a_file_excludes_others(run: Run) -> None:
    lock_id = json.loads(KEPT)["id"]
    with revived("ec2-full", "applied", run) as site:
        state = Path(STATE).read_bytes()
        with held(LOCK) as process:
            for command in (
                ("apply", "--auto-approve", "--no-wait"),
                ("destroy", "--auto-approve"),
            ):
                err = site.run(*command, code=1).err
                assert lock_id in err
                assert f"kill {process.pid}" in err
            site.run("state", "rm", "cpu-0", code=1)
            site.run("plan", "--lock-timeout", "1 s", code=1)
            assert lock_id in site.run("status").out
            err = site.run("unlock", lock_id, code=1).err
            assert f"kill {process.pid}" in err
            assert site.run("plan").out.startswith("No changes. ")
        assert Path(STATE).read_bytes() == state
        assert site.writes() == []
        # The holder was killed, and its file is still there.
        assert lock_id in site.apply().err
        assert not Path(LOCK).exists()


def test_a_lock_that_another_machine_has_left_is_broken_by_its_id(run: Run) -> None:
    lock_id = json.loads(KEPT)["id"]
    with revived("ec2-full", "applied", run) as site:
        Path(LOCK).write_bytes(of_this_machine(KEPT, host="elsewhere", who="root@elsewhere"))
        err = site.apply(code=1).err
        assert "root@elsewhere" in err
        assert f"planapply unlock {lock_id}" in err
        site.run("unlock", "00000000", code=1)
        assert Path(LOCK).exists()
        site.run("unlock", lock_id)
        assert not Path(LOCK).exists()
        site.apply()
        site.has_no_changes()


def test_a_lock_in_a_bucket_is_broken_by_its_id(run: Run) -> None:
    with revived("ec2-plain", "workers-made", run) as site:
        s3: Any = boto3.client("s3")
        kept = s3.get_object(Bucket=BUCKET, Key=KEY)["Body"].read()
        lock_id = json.loads(kept)["id"]
        before = site.vms()
        err = site.apply(code=1).err
        assert f"planapply unlock {lock_id}" in err
        assert site.writes() == []
        assert s3.get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == kept
        site.run("unlock", lock_id)
        site.apply()
        after = site.vms()
        assert before.items() <= after.items()
        assert after.keys() == {"scheduler", "cpu-0", "gpu-0"}
        keys = {item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]}
        assert keys == {"plain.json"}
        site.has_no_changes()
        Path(SPEC).write_text(Path(SPEC).read_text().replace("protect = true", "protect = false"))
        site.apply()
        site.destroy()
        site.nothing_is_left()


def test_remains_of_a_killed_write_are_not_a_state(run: Run) -> None:
    with revived("ec2-full", "workers-made", run) as site:
        Path(f"{STATE}.tmp").write_bytes(b"{")
        site.apply()
        assert not {name for name in os.listdir() if name.endswith((".tmp", ".lock"))}
        site.has_no_changes()
