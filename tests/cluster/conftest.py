"""Clusters in this process, of which nothing outlives its test."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import dask
import pytest
from cluster.inprocess import Cloud, CloudWorkspace, plugin

from planapply.dask import scheduler as scheduler_client
from planapply.ops.apply import apply
from planapply.specfile import load
from planapply.store import open_store

SPEC = """
[cluster]
name = "zoo"
provider = "inprocess"

[workers.cpu]
min = 0
max = 8
class = "distributed.Worker"
options = { nthreads = 1 }
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ignore the warning of a scheduler in this process about each cluster object that connects."""
    ignored = "ignore:Scheduler already contains a plugin with name worker-status:UserWarning"
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.filterwarnings(ignored))


@pytest.fixture(autouse=True)
def patient_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let schedulers of a busy machine answer late, although the simulator does not wait for them."""
    monkeypatch.setattr(scheduler_client, "CONNECT_TIMEOUT", 20.0)
    monkeypatch.setattr(scheduler_client, "BUSY_TIMEOUT", 20.0)
    monkeypatch.setattr(scheduler_client, "PROBE_TIMEOUT", 20.0)


@pytest.fixture(autouse=True)
def short_timeouts() -> Iterator[None]:
    """Make waits for events that do not happen short."""
    with dask.config.set(
        {
            "distributed.comm.timeouts.connect": "20s",
            "distributed.deploy.lost-worker-timeout": "50ms",
            "distributed.scheduler.active-memory-manager.start": False,
            "distributed.worker.profile.enabled": False,
        }
    ):
        yield


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Check that no event loop of a cluster outlives the test; idle executor threads stop with it."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in set(threading.enumerate()) - before if "IO loop" in thread.name]
    assert not left


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """A cloud in this process."""
    cloud = Cloud()
    yield cloud
    cloud.close()


Open = Callable[..., CloudWorkspace]


@pytest.fixture
def workspace(cloud: Cloud, tmp_path: Path) -> Open:
    """Open a spec, by default SPEC; call it again to see what another process would see."""

    def open(text: str = SPEC) -> CloudWorkspace:
        path = tmp_path / "zoo.toml"
        path.write_text(text)
        spec, diagnostics = load(path, lambda name: plugin(cloud))
        store = open_store(spec.state_location(path))
        return CloudWorkspace(store, spec, diagnostics, cloud=cloud)

    return open


@pytest.fixture
def applied(workspace: Open) -> Open:
    """Apply a spec, and open it as `workspace` does."""

    def open(text: str = SPEC) -> CloudWorkspace:
        report = apply(workspace(text), lambda plan: True)
        assert not report.failures
        return workspace(text)

    return open
