"""Signals end a real command within seconds, whatever the cloud does; the next one goes on."""

import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from crash.ground import Ground, local
from lab.fixtures import aws  # noqa: F401
from lab.honest import Cloud, listen

from planapply.model.state import State
from planapply.store import open_store

pytestmark = pytest.mark.slow

CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}
LONGEST = 60.0
"""Seconds; far more than is promised, for a busy machine: what hangs, hangs for ever."""
SPEC = """\
[cluster]
name = "signals"
join_timeout = "1 h"
{ground}
[workers.cpu]
count = 1
options = {{ nthreads = 1, {options} }}
"""


class Site:
    """A spec in a folder, and commands on it, none of which outlives the test."""

    def __init__(self, ground: Ground, folder: Path, state: str) -> None:
        self.ground, self.folder, self.state = ground, folder, state
        self.started: list[subprocess.Popen[str]] = []
        spec = ground.spec.replace('"local"', '"hanging"', 1)
        (folder / "planapply.toml").write_text(SPEC.format(ground=spec, options=ground.options))

    def start(self, *arguments: str, **env: str) -> "subprocess.Popen[str]":
        """Start one."""
        (self.folder / "hanging").unlink(missing_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-m", "planapply", *arguments, "--state", self.state],
            cwd=self.folder,
            env={**self.ground.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str) -> str:
        """One that succeeds; what it prints as its result."""
        process = self.start(*arguments)
        out, err = process.communicate()
        assert process.returncode == 0, err
        return out

    def apply(self, *arguments: str) -> str:
        return self.run("apply", "--auto-approve", "--no-wait", *arguments)

    def hangs(self, process: "subprocess.Popen[str]") -> None:
        """Wait until the cloud does not answer."""
        while not (self.folder / "hanging").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)

    def read(self) -> State:
        state = open_store(self.state).read()
        assert state is not None
        return state

    def settles(self) -> None:
        """The next apply makes it as the spec says, each node once, and destroy leaves nothing."""
        self.apply()
        lineage = self.read().lineage
        names = sorted(str(vm.name) for vm in self.ground.alive(lineage))
        assert names == ["cpu-0", "scheduler"]
        assert self.run("plan").startswith("No changes.")
        self.run("destroy", "--auto-approve")
        assert self.ground.alive(lineage) == []
        assert self.ground.leftovers(lineage) == []


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    info = tmp_path / "site" / "hanging_planapply-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hanging-planapply\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[planapply.providers]\nhanging = crash.hanging_plugin:PLUGIN\n"
    )
    with local(tmp_path / "ground") as ground:
        path = f"{info.parent}:{ground.env['PYTHONPATH']}"
        ground.env = {**ground.env, "PYTHONPATH": path}
        yield ground


@pytest.fixture
def new_site(ground: Ground, tmp_path: Path) -> Iterator[Callable[[str], Site]]:
    sites = []

    def new(state: str) -> Site:
        sites.append(Site(ground, tmp_path, state))
        return sites[-1]

    yield new
    for site in sites:
        for process in site.started:
            process.kill()
            process.communicate()


@pytest.fixture
def site(new_site: Callable[[str], Site], tmp_path: Path) -> Site:
    return new_site(str(tmp_path / "signals.json"))


def stop(process: "subprocess.Popen[str]", name: str) -> tuple[str, str]:
    """Send the signal, and see it end."""
    process.send_signal(signal.Signals[name])
    return ends(process, name)


def ends(process: "subprocess.Popen[str]", name: str) -> tuple[str, str]:
    """It ends by itself, with the code that shells expect after that signal."""
    out, err = process.communicate(timeout=LONGEST)
    assert process.returncode == CODES[name], err
    assert "Traceback" not in err
    return out, err


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
    aws: Cloud,  # noqa: F811
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
    aws: Cloud,  # noqa: F811
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


class Bucket:
    """S3 as the lab plays it, which answers nothing any more from some call on."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app
        self.silent_from: tuple[str, str, int] | None = None
        """A method, how its path ends, and how many such calls are answered first."""
        self.silent, self.over = threading.Event(), threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        """WSGI."""
        if self.silent_from:
            method, end, left = self.silent_from
            if environ["REQUEST_METHOD"] == method and environ["PATH_INFO"].endswith(end):
                self.silent_from = method, end, left - 1
                if not left:
                    self.silent.set()
        if self.silent.is_set():
            self.over.wait()
            start_response("503 too late", [])
            return []
        return self._app(environ, start_response)


@pytest.fixture
def bucket(ground: Ground, aws: Cloud) -> Iterator[Bucket]:  # noqa: F811
    """All that the commands of a site know of S3."""
    urllib.request.urlopen(urllib.request.Request(f"{aws.url}/states", b"", method="PUT")).close()
    bucket = Bucket(aws)
    with listen(bucket, "127.0.0.1", 0) as port:
        env = {**aws.env, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
        ground.env = {**ground.env, **env}
        try:
            yield bucket
        finally:
            bucket.over.set()


def flat(text: str) -> str:
    """As one line, without what differs each time."""
    return " ".join(re.sub(r"(?<=unlock )\w+", "ID", text).split())


@pytest.mark.parametrize(("command", "name"), [("apply", "SIGINT"), ("plan", "SIGTERM")])
def test_a_bucket_that_is_read_and_does_not_answer(
    new_site: Callable[[str], Site], bucket: Bucket, command: str, name: str
) -> None:
    bucket.silent_from = "GET", "signals.json", 0
    process = new_site("s3://states/signals.json").start(command)
    assert bucket.silent.wait(LONGEST)
    _, err = stop(process, name)
    # A plan holds no lock.
    assert flat(err) == (
        "Error: the state s3://states/signals.json may still be locked the state "
        "s3://states/signals.json can't be reached: s3://states has not answered When the cause is "
        "gone, free it: planapply unlock ID --state s3://states/signals.json"
        if command == "apply"
        else ""
    )


def test_a_bucket_that_does_not_answer_the_lock(
    new_site: Callable[[str], Site], bucket: Bucket
) -> None:
    bucket.silent_from = "PUT", ".lock", 0
    process = new_site("s3://states/signals.json").start("apply")
    assert bucket.silent.wait(LONGEST)
    _, err = stop(process, "SIGTERM")
    assert "s3://states/signals.json may still be locked" in err


@pytest.mark.parametrize("writes", range(1, 5))
def test_a_bucket_that_does_not_answer_any_more(
    new_site: Callable[[str], Site], bucket: Bucket, writes: int
) -> None:
    site = new_site("s3://states/signals.json")
    bucket.silent_from = "PUT", "signals.json", writes
    process = site.start("apply", "--auto-approve", "--no-wait")
    assert bucket.silent.wait(LONGEST)
    _, err = stop(process, "SIGTERM")
    told = flat(err.partition("Apply stopped")[2])
    assert "is recorded" not in told
    assert "Error: the state s3://states/signals.json can't be written: s3://states has not" in told
    assert "Error: the state s3://states/signals.json may still be locked" in told
    saved = re.search(r"planapply state push (\S+) --state s3://states/signals.json", err)
    lock = re.search(r"planapply unlock (\w+) --state s3://states/signals.json", err)
    assert saved
    assert lock
    assert lock.start() < saved.start()  # in the order in which they are to be carried out
    bucket.silent.clear()
    site.run("unlock", lock[1])
    site.run("state", "push", saved[1])
    assert Path(saved[1]).name == f"signals.unsaved-{site.read().serial}.json"
    site.settles()


def test_neither_the_cloud_nor_the_bucket_answers(
    new_site: Callable[[str], Site], bucket: Bucket
) -> None:
    site = new_site("s3://states/signals.json")
    process = site.start("apply", "--auto-approve", "--no-wait", HANG="launch", HANG_AT="1")
    site.hangs(process)
    bucket.silent.set()
    _, err = stop(process, "SIGTERM")
    told = flat(err.partition("Apply stopped")[2])
    assert told.startswith(
        ": 1 added, 0 changed, 0 destroyed. Error: the state s3://states/signals.json may still be "
        "locked"
    )
    lock = re.search(r"planapply unlock (\w+) --state s3://states/signals.json", err)
    assert lock
    bucket.silent.clear()
    site.run("unlock", lock[1])
    assert [intent.names for intent in site.read().intents.values()] == [["cpu-0"]]
    site.settles()


def test_a_bucket_that_does_not_answer_the_release(
    new_site: Callable[[str], Site], bucket: Bucket
) -> None:
    site = new_site("s3://states/signals.json")
    site.apply()
    bucket.silent_from = "GET", ".lock", 1
    process = site.start("state", "rm", "cpu-0")
    assert bucket.silent.wait(LONGEST)
    _, err = stop(process, "SIGTERM")
    lock = re.search(r"planapply unlock (\w+) --state s3://states/signals.json", err)
    assert lock
    bucket.silent.clear()
    site.run("unlock", lock[1])
    site.settles()


@pytest.mark.parametrize("call", ["PUT", "GET"])
def test_a_second_signal_while_a_bucket_does_not_answer(
    new_site: Callable[[str], Site], bucket: Bucket, call: str
) -> None:
    site = new_site("s3://states/signals.json")
    site.apply()
    bucket.silent_from = call, ".lock", int(call == "GET")  # the lock is being made, or released
    process = site.start("state", "rm", "cpu-0")
    assert bucket.silent.wait(LONGEST)
    # Stopped meanwhile, so that it is not done with the first before the second is there.
    for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
        process.send_signal(number)
    _, err = process.communicate(timeout=LONGEST)
    assert process.returncode in (130, 143)
    lock = re.search(r"(?<=unlock )\w+", err)
    assert lock
    assert err == (
        f"Ended at once. The lock {lock[0]} on s3://states/signals.json may stay; before the next run: "
        f"planapply unlock {lock[0]} --state s3://states/signals.json\n"
    )
    bucket.silent.clear()
    if call == "GET":
        site.run("unlock", lock[0])
    site.settles()
