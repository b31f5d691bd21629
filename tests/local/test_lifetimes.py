"""The lifetimes of a real cluster, changed while it runs."""

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from cluster.helpers import wait_until

from planapply.dask import scheduler as scheduler_client
from planapply.dask import scheduler_changes
from planapply.model.plan import Action, Mode
from planapply.model.state import State
from planapply.ops.apply import Report, apply
from planapply.ops.plan import PlanOptions
from planapply.ops.status import status
from planapply.ops.workspace import Workspace

pytestmark = pytest.mark.slow

SPEC = """
[cluster]
name = "lifetimes-{number}"
{lifetimes}

[provider]
folder = "{folder}/vms"

[scheduler]
options = {{ preload = ["{folder}/own.py"], dashboard = false }}

[workers.cpu]
count = 1
class = "distributed.Worker"
options = {{ nthreads = 1 }}
"""


class Site:
    """A spec and its cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "spec.toml"
        self.number = uuid.uuid4().hex[:12]

    def apply(self, lifetimes: str) -> Report:
        self.path.write_text(
            SPEC.format(number=self.number, folder=self.folder, lifetimes=lifetimes)
        )
        return apply(Workspace.from_spec(str(self.path)), lambda plan: True)

    def state(self) -> State:
        state = Workspace.from_spec(str(self.path)).store.read()
        assert state is not None
        return state

    def vms(self) -> dict[str, str]:
        return {name: record.vm for name, record in self.state().nodes.items()}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "own.py").write_text(
        f"def dask_setup(scheduler):\n    open({str(tmp_path / 'loaded')!r}, 'w').close()\n"
    )
    site = Site(tmp_path)
    yield site
    options = PlanOptions(mode=Mode.DESTROY)
    assert not apply(Workspace.from_spec(str(site.path)), lambda plan: True, options).failures


def actions(report: Report) -> list[tuple[str, Action]]:
    return [(change.name, change.action) for change in report.plan.changes]


def test_lifetimes_change_while_the_cluster_runs(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not site.apply('idle_timeout = "1 h"').failures
    assert (site.folder / "loaded").exists()  # the user's own preload
    vms = site.vms()
    [process] = [
        process
        for process in psutil.process_iter()
        if process.ppid()
        and vms["scheduler"] in _environment(process)
        and "-c" in process.cmdline()
    ]
    left = status(Workspace.from_spec(str(site.path))).time_left
    assert [*left] == ["idle_timeout"]
    assert 0 < left["idle_timeout"] <= 3600
    monkeypatch.setattr(scheduler_changes, "LIFETIMES_TIMEOUT", 0.5)
    monkeypatch.setattr(scheduler_client, "CONNECT_TIMEOUT", 20.0)
    os.kill(process.pid, signal.SIGSTOP)
    report = site.apply('idle_timeout = "2 h"')
    assert str(report.failures["scheduler"]) == (
        "cannot change the lifetimes of the scheduler: timed out after 0.5 s\n"
        "They count as unchanged. Run the command again to retry, or replace the scheduler with "
        "`planapply apply --replace scheduler`."
    )
    os.kill(process.pid, signal.SIGCONT)
    monkeypatch.undo()
    lifetimes = site.state().lifetimes
    assert (lifetimes.idle_timeout, lifetimes.no_client_timeout) == (3600, None)
    report = site.apply('idle_timeout = "2 h"\nno_client_timeout = "1 s"')
    assert not report.failures
    assert actions(report) == [("scheduler", Action.UPDATE)]
    assert site.vms() == vms
    lifetimes = site.state().lifetimes
    assert (lifetimes.idle_timeout, lifetimes.no_client_timeout) == (7200, 1)
    wait_until(lambda: not process.is_running())
    log = site.folder / "vms" / vms["scheduler"] / "log"
    assert "\nplanapply: this cluster ends: no_client_timeout\n" in log.read_text()


def _environment(process: psutil.Process) -> str:
    try:
        return process.environ().get("PLANAPPLY_VM", "")
    except psutil.Error:
        return ""
