"""Signals stop a real command within seconds, even if the bucket of its state does not answer."""

import re
import signal
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from crash.environment import Environment
from crash.project import TIMEOUT, Project, send_signal
from lab.honest import Cloud, listen

pytestmark = pytest.mark.slow


class SilentBucket:
    """The lab's S3, which stops answering at some call."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app
        self.silent_from: tuple[str, str, int] | None = None
        """A method, the end of its path, and the number of such calls that are answered first."""
        self.silent, self.done = threading.Event(), threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        """Answer a request."""
        if self.silent_from:
            method, end, left = self.silent_from
            if environ["REQUEST_METHOD"] == method and environ["PATH_INFO"].endswith(end):
                self.silent_from = method, end, left - 1
                if not left:
                    self.silent.set()
        if self.silent.is_set():
            self.done.wait()
            start_response("503 too late", [])
            return []
        return self._app(environ, start_response)


@pytest.fixture
def bucket(environment: Environment, aws: Cloud) -> Iterator[SilentBucket]:
    """The environment that gives the commands of a site access to S3."""
    urllib.request.urlopen(urllib.request.Request(f"{aws.url}/states", b"", method="PUT")).close()
    bucket = SilentBucket(aws)
    with listen(bucket, "127.0.0.1", 0) as port:
        env = {**aws.env, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
        environment.env = {**environment.env, **env}
        try:
            yield bucket
        finally:
            bucket.done.set()


def normalize(text: str) -> str:
    """Return an error as one line, without the parts that vary."""
    return " ".join(re.sub(r"(?<=unlock )\w+", "ID", text).split())


@pytest.mark.parametrize(("command", "name"), [("apply", "SIGINT"), ("plan", "SIGTERM")])
def test_signal_while_reading_from_a_silent_bucket(
    new_project: Callable[[str], Project], bucket: SilentBucket, command: str, name: str
) -> None:
    bucket.silent_from = "GET", "signals.json", 0
    process = new_project("s3://states/signals.json").start(command)
    assert bucket.silent.wait(TIMEOUT)
    _, err = send_signal(process, name)
    # A plan takes no lock.
    assert normalize(err) == (
        "Error: the state s3://states/signals.json may still be locked cannot reach the state "
        "s3://states/signals.json: no response from s3://states Fix the cause, then release the "
        "lock: planapply unlock ID --state s3://states/signals.json"
        if command == "apply"
        else ""
    )


def test_signal_while_locking_a_silent_bucket(
    new_project: Callable[[str], Project], bucket: SilentBucket
) -> None:
    bucket.silent_from = "PUT", ".lock", 0
    process = new_project("s3://states/signals.json").start("apply")
    assert bucket.silent.wait(TIMEOUT)
    _, err = send_signal(process, "SIGTERM")
    assert "s3://states/signals.json may still be locked" in err


@pytest.mark.parametrize("writes", range(1, 5))
def test_signal_while_writing_to_a_silent_bucket(
    new_project: Callable[[str], Project], bucket: SilentBucket, writes: int
) -> None:
    project = new_project("s3://states/signals.json")
    bucket.silent_from = "PUT", "signals.json", writes
    process = project.start("apply", "--auto-approve", "--no-wait")
    assert bucket.silent.wait(TIMEOUT)
    _, err = send_signal(process, "SIGTERM")
    messages = normalize(err.partition("Apply stopped")[2])
    assert "is recorded" not in messages
    assert "Error: cannot write the state s3://states/signals.json: no response" in messages
    assert "Error: the state s3://states/signals.json may still be locked" in messages
    saved = re.search(r"planapply state push (\S+) --state s3://states/signals.json", err)
    lock = re.search(r"planapply unlock (\w+) --state s3://states/signals.json", err)
    assert saved
    assert lock
    assert lock.start() < saved.start()  # in the order in which to run them
    bucket.silent.clear()
    project.run("unlock", lock[1])
    project.run("state", "push", saved[1])
    assert Path(saved[1]).name == f"signals.unsaved-{project.read().serial}.json"
    project.check_recovery()


def test_signal_while_cloud_and_bucket_are_silent(
    new_project: Callable[[str], Project], bucket: SilentBucket
) -> None:
    project = new_project("s3://states/signals.json")
    process = project.start("apply", "--auto-approve", "--no-wait", HANG="launch", HANG_AT="1")
    project.wait_until_hanging(process)
    bucket.silent.set()
    _, err = send_signal(process, "SIGTERM")
    messages = normalize(err.partition("Apply stopped")[2])
    assert messages.startswith(
        ": 1 added, 0 changed, 0 destroyed. Error: the state s3://states/signals.json may still be "
        "locked"
    )
    lock = re.search(r"planapply unlock (\w+) --state s3://states/signals.json", err)
    assert lock
    bucket.silent.clear()
    project.run("unlock", lock[1])
    assert [intent.names for intent in project.read().intents.values()] == [["cpu-0"]]
    project.check_recovery()


def test_signal_while_unlocking_a_silent_bucket(
    new_project: Callable[[str], Project], bucket: SilentBucket
) -> None:
    project = new_project("s3://states/signals.json")
    project.apply()
    bucket.silent_from = "GET", ".lock", 1
    process = project.start("state", "rm", "cpu-0")
    assert bucket.silent.wait(TIMEOUT)
    _, err = send_signal(process, "SIGTERM")
    lock = re.search(r"planapply unlock (\w+) --state s3://states/signals.json", err)
    assert lock
    bucket.silent.clear()
    project.run("unlock", lock[1])
    project.check_recovery()


@pytest.mark.parametrize("call", ["PUT", "GET"])
def test_second_signal_while_a_bucket_is_silent(
    new_project: Callable[[str], Project], bucket: SilentBucket, call: str
) -> None:
    project = new_project("s3://states/signals.json")
    project.apply()
    bucket.silent_from = call, ".lock", int(call == "GET")  # the lock is being taken or released
    process = project.start("state", "rm", "cpu-0")
    assert bucket.silent.wait(TIMEOUT)
    # The process is suspended meanwhile, so that it does not finish with the first signal before the
    # second arrives.
    for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
        process.send_signal(number)
    _, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode in (130, 143)
    lock = re.search(r"(?<=unlock )\w+", err)
    assert lock
    assert err == (
        f"Exited immediately. Lock {lock[0]} on s3://states/signals.json may remain; the next run on "
        "this machine takes it over. On another one, first release it: "
        f"`planapply unlock {lock[0]} --state s3://states/signals.json`\n"
    )
    bucket.silent.clear()
    project.check_recovery()  # takes over the lock that the process may have left
