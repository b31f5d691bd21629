"""A cluster whose provider and bucket may hang, and commands that are stopped by signals."""

import signal
import subprocess
import time
import uuid
from pathlib import Path

from crash.environment import Environment
from crash.forkserver import ForkServer

from planapply.model.state import State
from planapply.store import open_store

CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}
TIMEOUT = 60.0
"""Seconds; far more than promised, for a busy machine: a command that hangs, hangs forever."""
SPEC = """\
[cluster]
name = "signals-{number}"
join_timeout = "1 h"
{environment}
[workers.cpu]
count = 1
options = {{ nthreads = 1, {options} }}
"""


class Project:
    """A spec in a folder, and commands on it, all of which are stopped after the test."""

    def __init__(
        self, environment: Environment, folder: Path, state: str, fork_server: ForkServer
    ) -> None:
        self.environment, self.folder, self.state = environment, folder, state
        self._fork_server = fork_server
        self.processes: list[subprocess.Popen[str]] = []
        spec = environment.spec.replace('"local"', '"hanging"', 1)
        (folder / "planapply.toml").write_text(
            # With `local`, all clusters of this user are in one account: no name is used twice.
            SPEC.format(number=uuid.uuid4().hex[:12], environment=spec, options=environment.options)
        )

    def start(self, *arguments: str, **env: str) -> "subprocess.Popen[str]":
        """Start a command."""
        (self.folder / "hanging").unlink(missing_ok=True)
        process = self._fork_server.start(
            *arguments, "--state", self.state, cwd=self.folder, env={**self.environment.env, **env}
        )
        self.processes.append(process)
        return process

    def run(self, *arguments: str) -> str:
        """Run a command that succeeds, and return its result."""
        process = self.start(*arguments)
        out, err = process.communicate()
        assert process.returncode == 0, err
        return out

    def apply(self, *arguments: str) -> str:
        return self.run("apply", "--auto-approve", "--no-wait", "--no-retire", *arguments)

    def wait_until_hanging(self, process: "subprocess.Popen[str]") -> None:
        """Wait until a call of the cloud hangs."""
        while not (self.folder / "hanging").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)

    def read(self) -> State:
        state = open_store(self.state).read()
        assert state is not None
        return state

    def check_recovery(self) -> None:
        """Check that the next apply creates each node of the spec once, and that destroy leaves nothing."""
        self.apply()
        lineage = self.read().lineage
        names = sorted(str(vm.name) for vm in self.environment.live_vms(lineage))
        assert names == ["cpu-0", "scheduler"]
        assert self.run("plan").startswith("No changes.")
        self.run("destroy", "--auto-approve")
        assert self.environment.live_vms(lineage) == []
        assert self.environment.leftovers(lineage) == []


def send_signal(process: "subprocess.Popen[str]", name: str) -> tuple[str, str]:
    """Send a signal, and wait until the command exits."""
    process.send_signal(signal.Signals[name])
    return wait_for_exit(process, name)


def wait_for_exit(process: "subprocess.Popen[str]", name: str) -> tuple[str, str]:
    """Wait until the command exits with the code that shells expect after that signal."""
    out, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == CODES[name], err
    assert "Traceback" not in err
    return out, err
