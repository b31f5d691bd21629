"""Killed commands: at whatever moment, no VM is lost, and none exists twice."""

import subprocess
from collections import Counter
from pathlib import Path
from time import sleep

import pytest
from cli.commands import Run
from crash.forkserver import shared_server
from novalab.cloud import Cloud
from order import few

from planapply.store import open_store

pytestmark = [pytest.mark.slow, pytest.mark.soak]

APPLY = ("apply", "--auto-approve", "--no-wait", "--no-retire")


@pytest.mark.parametrize("creates", few([2, 1, 4], 1))
def test_kill_while_servers_are_created(
    nova: Cloud, run: Run, environment: dict[str, str], creates: int
) -> None:
    Path("planapply.toml").write_text(nova.spec(4))
    _killed_at(nova, environment, ("POST", "/servers", creates), *APPLY)
    state = open_store("planapply.state.json").read()
    assert state is not None
    known = {record.vm for record in state.nodes.values()}
    for server in nova.wait_until_idle():
        assert server["id"] in known or server["metadata"]["planapply:batch"] in state.intents

    again = run(*APPLY)
    assert again.code == 0, again.err
    found = Counter(server["metadata"]["planapply:names"] for server in nova.wait_until_idle())
    assert found == dict.fromkeys(["scheduler", "cpu-0", "cpu-1", "cpu-2", "cpu-3"], 1)
    assert run("plan", "--detailed-exitcode").code == 0


def test_kill_while_servers_are_destroyed(
    nova: Cloud, run: Run, environment: dict[str, str]
) -> None:
    Path("planapply.toml").write_text(nova.spec(3))
    assert run(*APPLY).code == 0
    _killed_at(nova, environment, ("DELETE", "", 2), "destroy", "--auto-approve")
    assert run("destroy", "--auto-approve").code == 0
    assert nova.wait_until_idle() == []


def _killed_at(
    cloud: Cloud, environment: dict[str, str], point: tuple[str, str, int], *command: str
) -> None:
    """Run a command, and kill it when Nova has received that many such calls."""
    method, path, count = point
    cloud.clear()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = shared_server().start(*command, env=environment, **quiet)
    try:
        while True:
            ended = process.poll() is not None
            if cloud.calls(method, path) >= count:
                break
            assert not ended, "it ended before it could be killed"
            sleep(0.01)
    finally:
        process.kill()
        process.wait()
