"""Signals stop a real command within seconds, whatever the cloud does; the next command continues."""

import signal
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from crash.environment import Environment
from crash.project import TIMEOUT, Project, send_signal, wait_for_exit
from lab.honest import Cloud
from order import few

from planapply.store import open_store

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", few(["SIGTERM", "SIGINT", "SIGHUP"], 1))
def test_signal_while_waiting_for_nodes(project: Project, name: str) -> None:
    (project.folder / "slow.py").write_text(f"import time; time.sleep({TIMEOUT})\n")
    slow = f'workers.cpu.options={{ nthreads = 1, preload = ["{project.folder / "slow.py"}"] }}'
    process = project.start("apply", "--auto-approve", "--set", slow)
    assert process.stderr
    while "cpu-0: launched" not in process.stderr.readline():
        assert process.poll() is None
    _, err = send_signal(process, name)
    assert "Apply stopped: 2 added, 0 changed, 0 destroyed." in " ".join(err.split())
    assert not Path(f"{project.state}.lock").exists()
    assert sorted(project.read().nodes) == ["cpu-0", "scheduler"]
    assert project.read().intents == {}
    project.check_recovery()


@pytest.mark.parametrize("name", few(["SIGHUP", "SIGINT", "SIGTERM"], 2))
def test_signal_while_a_launch_hangs(project: Project, name: str) -> None:
    process = project.start("apply", "--auto-approve", "--no-wait", HANG="launch", HANG_AT="1")
    project.wait_until_hanging(process)
    _, err = send_signal(process, name)
    assert "Apply stopped: 1 added, 0 changed, 0 destroyed." in " ".join(err.split())
    assert not Path(f"{project.state}.lock").exists()
    state = project.read()
    assert [intent.names for intent in state.intents.values()] == [["cpu-0"]]
    assert sorted(state.nodes) == ["scheduler"]
    project.check_recovery()


@pytest.mark.parametrize(
    ("command", "hang", "at"),
    [
        ("apply", "find", 0),  # no change was made yet
        ("apply --replace cpu-0", "terminate", 0),
        ("apply --replace cpu-0", "find", 1),  # whether it has exited
        ("destroy", "terminate", 0),
        ("destroy", "terminate", 1),
        ("destroy", "find", 2),
        ("apply --set cluster.tags.a='b'", "retag", 0),
    ],
)
def test_signal_while_another_call_hangs(
    project: Project, command: str, hang: str, at: int
) -> None:
    project.apply()
    arguments = [word.strip("'") for word in command.replace("='b'", '="b"').split()]
    extra = [] if arguments[0] == "destroy" else ["--no-wait"]
    process = project.start(*arguments, *extra, "--auto-approve", HANG=hang, HANG_AT=str(at))
    project.wait_until_hanging(process)
    send_signal(process, "SIGTERM")
    assert not Path(f"{project.state}.lock").exists()
    project.check_recovery()


def test_second_ctrl_c_exits_immediately(project: Project) -> None:
    process = project.start("apply", "--auto-approve", "--no-wait", HANG="launch")
    project.wait_until_hanging(process)
    process.send_signal(signal.SIGINT)
    assert process.stderr
    while not process.stderr.readline().startswith("Stopping:"):
        assert process.poll() is None
    held = open_store(project.state).lock_info()
    assert held
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, err) == (
        130,
        f"Exited immediately. Lock {held.id} on {project.state} remains; the next run on this machine "
        "takes it over.\n",
    )
    project.check_recovery()


@pytest.mark.parametrize("hang", ["find", "launch"])
def test_bucket_lock_is_released(
    new_project: Callable[[str], Project],
    environment: Environment,
    aws: Cloud,
    hang: str,
) -> None:
    urllib.request.urlopen(urllib.request.Request(f"{aws.url}/states", b"", method="PUT")).close()
    environment.env = {**environment.env, **aws.env}
    project = new_project("s3://states/signals.json")
    project.apply("--set", "workers.cpu.count=0")
    process = project.start("apply", "--auto-approve", "--no-wait", HANG=hang)
    project.wait_until_hanging(process)
    assert open_store(project.state).lock_info() is not None
    send_signal(process, "SIGTERM")
    assert open_store(project.state).lock_info() is None
    project.check_recovery()


@pytest.mark.parametrize(
    ("command", "call", "at"),
    [
        ("apply --auto-approve", "s3:PutObject", 1),  # the lock is being taken
        ("state rm cpu-0", "s3:PutObject", 1),
        ("state rm cpu-0", "s3:GetObject", 3),  # the lock is being released
        ("state rm cpu-0", "s3:POST", 1),
    ],
)
def test_bucket_lock_is_released_after_a_signal(
    new_project: Callable[[str], Project],
    environment: Environment,
    aws: Cloud,
    command: str,
    call: str,
    at: int,
) -> None:
    urllib.request.urlopen(urllib.request.Request(f"{aws.url}/states", b"", method="PUT")).close()
    environment.env = {**environment.env, **aws.env}
    project = new_project("s3://states/signals.json")
    project.apply()
    aws.clear()
    held = threading.Event()
    aws.fault(call, held=held, at=at)
    process = project.start(*command.split())
    while aws.counts()["actions"].get(call, 0) < at:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    time.sleep(1.0)  # the signal arrives during the call
    held.set()
    wait_for_exit(process, "SIGTERM")
    assert open_store(project.state).lock_info() is None
    project.check_recovery()
