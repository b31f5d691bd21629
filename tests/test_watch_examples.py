"""The examples of `planapply watch`: the systemd unit, the cron line, the CI job, and the hook, all of them run."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

EXAMPLES = Path(__file__).parents[1] / "examples" / "watch"
PROGRAM = "/opt/planapply/bin/planapply"
SPEC = """\
[cluster]
name = "watched-{pid}"

[scheduler]
options = {{ dashboard = false }}

[workers.cpu]
count = 1
options = {{ nthreads = 1, memory_limit = "500 MB" }}
"""
CURL = """
import json, sys
with open("posted", "a") as posted:
    print(json.dumps([sys.stdin.read(), json.loads(sys.argv[sys.argv.index("--data") + 1])]), file=posted)
"""


def unit() -> dict[str, dict[str, list[str]]]:
    """Return the values of each key of the unit, by section."""
    sections: dict[str, dict[str, list[str]]] = {}
    keys: dict[str, list[str]] = {}
    for line in (EXAMPLES / "planapply-watch@.service").read_text().splitlines():
        if line.startswith("["):
            keys = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            keys.setdefault(key, []).append(value)
    return sections


def cron_command() -> str:
    (line,) = [x for x in (EXAMPLES / "crontab").read_text().splitlines() if x[:1] not in ("#", "")]
    *when, command = line.split(maxsplit=5)
    assert when == ["*/5", "*", "*", "*", "*"]
    assert "%" not in command  # which ends a command of cron
    return command


class Site:
    """A machine with planapply, the files of the examples, and a cluster of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "clusters"
        shutil.copytree(EXAMPLES, self.folder)
        (self.folder / "planapply.toml").write_text(SPEC.format(pid=os.getpid()))
        (folder / "bin").mkdir()
        curl = folder / "bin" / "curl"
        curl.write_text(f"#!{sys.executable}\n{CURL}")
        curl.chmod(0o755)
        self.program = str(Path(sys.executable).with_name("planapply"))
        paths = [str(folder / "bin"), str(Path(self.program).parent), os.environ["PATH"]]
        self.environment = {
            **os.environ,
            "HOME": str(folder),
            "PATH": os.pathsep.join(paths),
            "NOTIFY_URL": "https://chat.example/secret",
        }

    def run(self, command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["sh", "-c", command.replace(PROGRAM, self.program)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    def kill(self, node: str) -> None:
        """Kill the processes of a node."""
        state = json.loads((self.folder / "planapply.state.json").read_text())
        id = state["nodes"][node]["vm"]
        for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
            try:
                variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if f"PLANAPPLY_VM={id}".encode() in variables:
                os.kill(pid, signal.SIGKILL)

    def posted(self) -> list[Any]:
        """Return what the hook has posted."""
        posted = self.folder / "posted"
        lines = posted.read_text().splitlines() if posted.exists() else []
        posted.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    done = site.run("planapply destroy --auto-approve")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_commands_of_the_examples(site: Site) -> None:
    applied = site.run("planapply apply --auto-approve")
    assert applied.returncode == 0, applied.stderr
    name = f"watched-{os.getpid()}"

    # cron, after a node was lost: it is healed, and the chat says so.
    site.kill("cpu-0")
    done = site.run(cron_command())
    assert (done.returncode, re.sub(r".*hook .*\n", "", done.stderr)) == (0, "")
    log = " ".join((site.folder / "watch.log").read_text().split())
    assert "lost cpu-0" in log
    assert "launched cpu-0; joined cpu-0" in log
    assert site.posted() == [
        ['url = "https://chat.example/secret"\n', {"text": f"Dask cluster {name}: lost cpu-0"}]
    ]

    # CI, with nothing to do
    (step,) = [step for step in job()["steps"] if step.get("name") == "Watch"]
    done = site.run(step["run"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "Nothing to do.\n", "")

    # systemd: a stop by SIGTERM is a success, and leaves the cluster running.
    (start,) = unit()["Service"]["ExecStart"]
    start = start.replace("/etc/planapply/%i.toml", "planapply.toml")
    words = shlex.split(start.replace("/etc/planapply/", "").replace(PROGRAM, site.program))
    with subprocess.Popen(
        words, cwd=site.folder, env=site.environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(f'Watching cluster "{name}"')
            process.terminate()
            assert str(process.wait()) in unit()["Service"]["SuccessExitStatus"][0].split()
        finally:
            process.kill()
    assert site.posted() == []
    assert site.run("planapply status").stdout.count("joined") >= 2

    # ... and the end of the cluster is exit code 0, after which it does not start again.
    assert site.run("planapply destroy --auto-approve").returncode == 0
    assert subprocess.run(words, cwd=site.folder, env=site.environment).returncode == 0
    assert unit()["Service"]["Restart"] == ["on-failure"]


def job() -> dict[str, Any]:
    document = yaml.safe_load((EXAMPLES / "watch.yml").read_text())
    found: dict[str, Any] = document["jobs"]["watch"]
    return found


def test_workflow_is_safe() -> None:
    document = yaml.safe_load((EXAMPLES / "watch.yml").read_text())
    assert document[True].keys() == {"schedule", "workflow_dispatch"}  # YAML 1.1: `on` is true
    assert document["permissions"] == {}
    assert document["concurrency"]["cancel-in-progress"] is False
    assert job()["permissions"] == {"contents": "read", "id-token": "write"}
    for step in job()["steps"]:
        assert "${{" not in step.get("run", "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    copy = tmp_path / "planapply-watch@.service"
    text = (EXAMPLES / copy.name).read_text()
    copy.write_text(text.replace(PROGRAM, str(Path(sys.executable).with_name("planapply"))))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_hook_has_no_trouble_with_any_event(tmp_path: Path) -> None:
    site = Site(tmp_path)
    for name in ("on_node_lost", "on_applied", "on_failed", "before_destroy"):
        site.environment |= {
            "PLANAPPLY_EVENT": name,
            "PLANAPPLY_CLUSTER": "demo",
            "PLANAPPLY_COMMAND": "watch",
            "PLANAPPLY_NODES": "scheduler,cpu-[0-2]",
            "PLANAPPLY_ERRORS": "cloud_capacity",
            "PLANAPPLY_ADDED": "1",
            "PLANAPPLY_CHANGED": "0",
            "PLANAPPLY_DESTROYED": "2",
        }
        done = site.run("./notify.sh")
        assert (done.returncode, done.stderr) == (0, "")
    assert [message["text"] for _, message in site.posted()] == [
        "Dask cluster demo: lost scheduler,cpu-[0-2]",
        "Dask cluster demo: watch: 1 added, 0 changed, 2 destroyed",
        "Dask cluster demo: watch failed (cloud_capacity)",
        "Dask cluster demo: before_destroy",
    ]
