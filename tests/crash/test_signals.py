"""Signals end a real command within seconds, whatever the cloud does; the next one goes on."""

import signal
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from crash.environment import Ground
from crash.stopping import CODES, LONGEST, Site, ends, stop
from lab.honest import Cloud

from planapply.store import open_store

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", CODES)
def test_while_nodes_are_awaited(site: Site, name: str) -> None:
    (site.folder / "slow.py").write_text(f"import time; time.sleep({LONGEST})\n")
    slow = f'workers.cpu.options={{ nthreads = 1, preload = ["{site.folder / "slow.py"}"] }}'
    process = site.start("apply", "--auto-approve", "--set", slow)
    assert process.stderr
    while "cpu-0: launched" not in process.stderr.readline():
        assert process.poll() is None
    _, err = stop(process, name)
    assert "Apply stopped: 2 added, 0 changed, 0 destroyed." in " ".join(err.split())
    assert not Path(f"{site.state}.lock").exists()
    assert sorted(site.read().nodes) == ["cpu-0", "scheduler"]
    assert site.read().intents == {}
    site.settles()


@pytest.mark.parametrize("name", CODES)
def test_while_a_launch_hangs(site: Site, name: str) -> None:
    process = site.start("apply", "--auto-approve", "--no-wait", HANG="launch", HANG_AT="1")
    site.hangs(process)
    _, err = stop(process, name)
    assert "Apply stopped: 1 added, 0 changed, 0 destroyed." in " ".join(err.split())
    assert not Path(f"{site.state}.lock").exists()
    state = site.read()
    assert [intent.names for intent in state.intents.values()] == [["cpu-0"]]
    assert sorted(state.nodes) == ["scheduler"]
    site.settles()


@pytest.mark.parametrize(
    ("command", "hang", "at"),
    [
        ("apply", "find", 0),  # nothing is changed yet
        ("apply --replace cpu-0", "terminate", 0),
        ("apply --replace cpu-0", "find", 1),  # whether it has ended
        ("destroy", "terminate", 0),
        ("destroy", "terminate", 1),
        ("destroy", "find", 2),
        ("apply --set cluster.tags.a='b'", "retag", 0),
    ],
)
def test_while_another_call_hangs(site: Site, command: str, hang: str, at: int) -> None:
    site.apply()
    arguments = [word.strip("'") for word in command.replace("='b'", '="b"').split()]
    extra = [] if arguments[0] == "destroy" else ["--no-wait"]
    process = site.start(*arguments, *extra, "--auto-approve", HANG=hang, HANG_AT=str(at))
    site.hangs(process)
    stop(process, "SIGTERM")
    assert not Path(f"{site.state}.lock").exists()
    site.settles()


def test_a_second_ctrl_c_ends_at_once(site: Site) -> None:
    process = site.start("apply", "--auto-approve", "--no-wait", HANG="launch")
    site.hangs(process)
    process.send_signal(signal.SIGINT)
    assert process.stderr
    while not process.stderr.readline().startswith("Stopping:"):
        assert process.poll() is None
    held = open_store(site.state).lock_info()
    assert held
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=LONGEST)
    assert (process.returncode, err) == (
        130,
        f"Ended at once. The lock {held.id} on {site.state} stays; the next run on this machine takes "
        "it over by itself.\n",
    )
    site.settles()


@pytest.mark.parametrize("hang", ["find", "launch"])
def test_the_lock_of_a_bucket_is_released(
    new_site: Callable[[str], Site],
    ground: Ground,
    aws: Cloud,
    hang: str,
) -> None:
    urllib.request.urlopen(urllib.request.Request(f"{aws.url}/states", b"", method="PUT")).close()
    ground.env = {**ground.env, **aws.env}
    site = new_site("s3://states/signals.json")
    site.apply("--set", "workers.cpu.count=0")
    process = site.start("apply", "--auto-approve", "--no-wait", HANG=hang)
    site.hangs(process)
    assert open_store(site.state).lock_info() is not None
    stop(process, "SIGTERM")
    assert open_store(site.state).lock_info() is None
    site.settles()


@pytest.mark.parametrize(
    ("command", "call", "at"),
    [
        ("apply --auto-approve", "s3:PutObject", 1),  # the lock is being made
        ("state rm cpu-0", "s3:PutObject", 1),
        ("state rm cpu-0", "s3:GetObject", 3),  # it is being released
        ("state rm cpu-0", "s3:POST", 1),
    ],
)
def test_the_lock_of_a_bucket_does_not_outlive_a_signal(
    new_site: Callable[[str], Site],
    ground: Ground,
    aws: Cloud,
    command: str,
    call: str,
    at: int,
) -> None:
    urllib.request.urlopen(urllib.request.Request(f"{aws.url}/states", b"", method="PUT")).close()
    ground.env = {**ground.env, **aws.env}
    site = new_site("s3://states/signals.json")
    site.apply()
    aws.clear()
    held = threading.Event()
    aws.fault(call, held=held, at=at)
    process = site.start(*command.split())
    while aws.counts()["actions"].get(call, 0) < at:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    time.sleep(1.0)  # it hears that while the call is under way
    held.set()
    ends(process, "SIGTERM")
    assert open_store(site.state).lock_info() is None
    site.settles()
