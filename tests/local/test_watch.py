"""planapply watch with a real cluster on this machine, whose nodes are killed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from planapply_local import supervisor

import planapply
from planapply.cli import main
from planapply.store import open_store

pytestmark = pytest.mark.slow

SPEC = f"""
[cluster]
name = "watch-{os.getpid()}"

[provider]
folder = "FOLDER"

[scheduler]
options = {{ dashboard = false }}

[workers.cpu]
count = 1
class = "distributed.Worker"
options = {{ nthreads = 1 }}
"""
STATE = "planapply.state.json"


@pytest.fixture
def applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cluster with one worker, which is destroyed after the test."""
    monkeypatch.chdir(tmp_path)
    Path("planapply.toml").write_text(SPEC.replace("FOLDER", str(tmp_path / "vms")))
    planapply.apply("planapply.toml", progress=False)
    yield
    planapply.destroy("planapply.toml", progress=False)


def kill_worker() -> str:
    """Kill every process of the worker's VM; return its ID."""
    state = open_store(STATE).read()
    assert state is not None
    id = state.nodes["cpu-0"].vm
    supervisor.kill(id)
    return id


def read_rounds(process: "subprocess.Popen[str]", key: str) -> Iterator[list[str]]:
    """Yield the nodes that each round has under this key."""
    assert process.stdout is not None
    for line in process.stdout:
        data = json.loads(line).get("data", {})
        if key in data:
            yield data[key]


def test_killed_worker_comes_back(applied: None, capsys: pytest.CaptureFixture[str]) -> None:
    lost = kill_worker()
    assert main(["watch", "--once"]) == 0
    assert f"lost cpu-0 (VM {lost} is gone); launched cpu-0; joined cpu-0" in _joined(capsys)
    assert main(["watch", "--once"]) == 0
    assert capsys.readouterr() == ("Nothing to do.\n", "")

    command = [sys.executable, "-m", "planapply", "watch", "--interval", "1s", "--json"]
    watcher = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert watcher.stdout is not None
        next(watcher.stdout)
        lost = kill_worker()
        assert next(read_rounds(watcher, "launched")) == ["cpu-0"]
        assert next(read_rounds(watcher, "joined")) == ["cpu-0"]
        watcher.send_signal(signal.SIGTERM)
        last = json.loads([*watcher.stdout][-1])
        assert (last["event"], last["data"]["outcome"]) == ("finished", "stopped")
        assert watcher.wait() == 143
    finally:
        watcher.kill()
        watcher.communicate()
    # The cluster still runs, and its history has each change.
    assert main(["plan", "--detailed-exitcode"]) == 0
    state = open_store(STATE).read()
    assert state is not None
    assert [change.what for change in state.history] == ["apply", "watch", "watch"]


def _joined(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())
