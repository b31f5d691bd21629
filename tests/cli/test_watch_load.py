"""A real cluster that follows the load, with no client connected."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli.commands import Run
from distributed import Client, fire_and_forget
from planapply_local.provider import LocalProvider

from planapply.cli.run_watch import WatchRun
from planapply.model.names import SCHEDULER
from planapply.model.node import TAG_CLUSTER
from planapply.ops.workspace import Workspace
from planapply.store import open_store

pytestmark = pytest.mark.slow

SPEC = """\
[cluster]
name = "NAME"

[scheduler]
options = { dashboard = false }

[workers.burst]
min = 1
max = 3
class = "distributed.Worker"
options = { nthreads = 1, memory_limit = "1 GiB" }
adapt = { target = "1 s", idle = "2 s" }
"""
STATE = "planapply.state.json"
TIMEOUT = 120.0


@pytest.fixture
def cluster(folder: Path, tmp_path: Path) -> Iterator[str]:
    """A spec of a cluster that no other test uses; its processes are stopped after the test."""
    name = f"load-{os.getpid()}-{abs(hash(str(tmp_path)))}"
    Path("planapply.toml").write_text(SPEC.replace("NAME", name))
    yield name
    provider = LocalProvider()
    left = [vm.id for vm in provider.find({TAG_CLUSTER: name})]
    if left:
        provider.terminate(left)
        provider.terminate(left)


def nodes() -> set[str]:
    state = open_store(STATE).read()
    assert state is not None
    return state.nodes.keys() - {SCHEDULER}


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.1)


def test_group_grows_to_its_maximum_and_back(run: Run, cluster: str) -> None:
    applied = run("apply", "--auto-approve")
    assert applied.code == 0, applied.err
    assert applied.err.endswith(
        "\nWarning: group 'burst' has `adapt`, but no watcher follows the load\n"
        "  Until `planapply watch` runs, the group keeps its number of nodes.\n"
    )
    workspace = Workspace.from_state("planapply.toml")
    watch = threading.Thread(target=WatchRun(workspace, 1.0, once=False, json=False).run)
    watch.start()
    try:
        wait_until(lambda: Path(f"{STATE}.adaptive.lock").exists())
        assert "no watcher" not in run("status").out
        with Client(run("output", "scheduler_address").out.strip()) as client:
            fire_and_forget(client.map(time.sleep, [0.1] * 200, pure=False))
        wait_until(lambda: len(nodes()) == 3)
        wait_until(lambda: len(nodes()) == 1)
    finally:
        workspace.clock.stop()
        watch.join()
    assert not Path(f"{STATE}.adaptive.lock").exists()
    assert run("plan").out.startswith("No changes. ")
    assert run("destroy", "--auto-approve").code == 0
