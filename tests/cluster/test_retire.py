"""Results survive: a node stays if its results cannot be moved, and a plan that loses them says so."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cluster.conftest import SPEC, Open
from cluster.helpers import apply_pending, wait_until
from cluster.inprocess import Cloud
from distributed import Client
from distributed.protocol.serialize import ToPickle
from inline_snapshot import snapshot

from planapply import Cluster
from planapply.dask import scheduler_changes, speccluster
from planapply.model.diagnostics import PlanapplyError
from planapply.model.plan import Mode
from planapply.ops.apply import ApplyOptions, Report, apply
from planapply.ops.plan import PlanOptions, plan
from planapply.ops.workspace import Workspace
from planapply.render.failures import failure_diagnostics

COUNTS = SPEC.replace("min = 0\nmax = 8", "count = 3")
FEWER = COUNTS.replace("count = 3", "count = 1")
ALL = ["cpu-0", "cpu-1", "cpu-2", "scheduler"]


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def shrink(workspace: Workspace, **options: Any) -> Report:
    return apply(workspace, lambda plan: True, apply_options=ApplyOptions(**options))


def errors(report: Report) -> str:
    return "\n".join(str(diagnostic) for diagnostic in failure_diagnostics(report.failures))


def hold(client: Client, worker: str) -> Any:
    """Compute a result that only this worker holds."""
    future = client.submit(bytes, 1 << 20, workers=[worker], pure=False)
    assert len(future.result()) == 1 << 20
    return future


def test_shrink_moves_the_results(cloud: Cloud, applied: Open, workspace: Open) -> None:
    applied(COUNTS)
    with Client(cloud.scheduler.address) as client:
        held = hold(client, "cpu-2")
        assert not shrink(workspace(FEWER)).failures
        assert cloud.names() == ["cpu-0", "scheduler"]
        assert len(held.result()) == 1 << 20


def test_nodes_that_the_answer_lacks_stay_until_the_next_apply(
    cloud: Cloud, applied: Open, workspace: Open
) -> None:
    applied(COUNTS)
    real = cloud.scheduler.handlers["retire_workers"]

    async def retire_workers(names: list[str], **options: Any) -> Any:
        return await real(names=[name for name in names if name != "cpu-2"], **options)

    cloud.scheduler.handlers["retire_workers"] = retire_workers
    report = shrink(workspace(FEWER))
    assert errors(report) == snapshot("""\
cpu-2: cannot retire the workers: no other worker can take over their results
These VMs keep running, so that no results are lost. Run the command again to retry, or pass --no-retire to terminate them without moving their results.\
""")
    assert cloud.names() == ["cpu-0", "cpu-2", "scheduler"]
    cloud.scheduler.handlers["retire_workers"] = real
    assert not shrink(workspace(FEWER)).failures
    assert cloud.names() == ["cpu-0", "scheduler"]
    assert not plan(workspace(FEWER)).plan.changes


async def never(**_: Any) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda path: lambda **_: 1 / 0, "would have to be unpickled"),
        (lambda path: lambda **_: ToPickle(Bomb(path)), "would have to be unpickled"),
        (lambda path: lambda **_: ["cpu-1", "cpu-2"], "unexpected response to 'retire_workers'"),
        (lambda path: lambda **_: {"a": {"name_": "cpu-1"}}, "unexpected response"),
        (lambda path: never, "timed out after 0.5 s"),
    ],
    ids=["fails", "pickle", "list", "other keys", "never"],
)
def test_nodes_stay_without_an_answer(
    answer: Callable[[Path], Any],
    reason: str,
    cloud: Cloud,
    applied: Open,
    workspace: Open,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    applied(COUNTS)
    monkeypatch.setattr(scheduler_changes, "RETIRE_TIMEOUT", 0.5 if "timed" in reason else 60.0)
    cloud.scheduler.handlers["retire_workers"] = answer(tmp_path / "ran")
    report = shrink(workspace(FEWER))
    assert set(report.failures) == {"cpu-1", "cpu-2"}
    assert reason in errors(report)
    assert cloud.names() == ALL
    assert not (tmp_path / "ran").exists()
    assert not shrink(workspace(FEWER), retire=False).failures
    assert cloud.names() == ["cpu-0", "scheduler"]


def test_round_of_watch_waits_less(
    cloud: Cloud, applied: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler_changes, "HEAL_TIMEOUT", 0.5)
    endpoint = applied(COUNTS).read().endpoint
    assert endpoint is not None
    cloud.scheduler.handlers["retire_workers"] = never
    answer = scheduler_changes.retire_workers(endpoint, None, ["cpu-1"], is_healing=True)
    assert asyncio.run(answer) == ({"cpu-1"}, "timed out after 0.5 s")


def test_nodes_stay_without_a_scheduler(cloud: Cloud, applied: Open, workspace: Open) -> None:
    applied(COUNTS)
    cloud.stop_servers("scheduler")
    report = shrink(workspace(FEWER))
    assert errors(report) == snapshot("""\
cpu-[1-2]: cannot retire the workers: the scheduler does not answer (Connection refused)
These VMs keep running, so that no results are lost. Run the command again to retry, or pass --no-retire to terminate them without moving their results.\
""")
    assert cloud.names() == ALL
    targeted = PlanOptions(mode=Mode.DESTROY, targets=("cpu-1",))
    assert set(apply(workspace(), lambda plan: True, targeted).failures) == {"cpu-1"}
    options = ApplyOptions(retire=False)
    assert not apply(workspace(), lambda plan: True, targeted, options).failures
    assert cloud.names() == ["cpu-0", "cpu-2", "scheduler"]
    everything = PlanOptions(mode=Mode.DESTROY)
    assert not apply(workspace(), lambda plan: True, everything).failures
    assert cloud.names() == []


def test_replacement_that_cannot_retire_launches_nothing(
    cloud: Cloud, applied: Open, workspace: Open
) -> None:
    applied(COUNTS)
    cloud.scheduler.handlers["retire_workers"] = lambda **_: {}
    replaced = PlanOptions(replace=("cpu-1",))
    report = apply(workspace(COUNTS), lambda plan: True, replaced)
    assert set(report.failures) == {"cpu-1"}
    assert cloud.launched_names.count("cpu-1") == 1


def test_workers_that_the_scheduler_does_not_know_hold_nothing(
    cloud: Cloud, applied: Open, workspace: Open
) -> None:
    applied(COUNTS)
    cloud.stop_servers("cpu-2")
    wait_until(lambda: len(cloud.scheduler.workers) == 2)
    assert not shrink(workspace(FEWER)).failures
    assert cloud.names() == ["cpu-0", "scheduler"]


def test_cluster_keeps_nodes_that_cannot_be_retired(cloud: Cloud, applied: Open) -> None:
    with Cluster.adopt(applied()) as cluster:
        cluster.scale(2)
        cluster.wait_for_workers(2, timeout=120)
        real = cloud.scheduler.handlers["retire_workers"]
        cloud.scheduler.handlers["retire_workers"] = lambda **_: {}
        cluster.scale(1)
        with pytest.raises(PlanapplyError) as caught:
            apply_pending(cluster)
        assert str(caught.value) == snapshot("""\
cpu-1: cannot retire the workers: no other worker can take over their results
They keep running, so that no results are lost; the next change tries again. To terminate a node of a spec without moving its results, run `planapply destroy --target cpu-1 --no-retire`.\
""")
        assert cloud.names() == ["cpu-0", "cpu-1", "scheduler"]
        cloud.scheduler.handlers["retire_workers"] = real
        apply_pending(cluster)
        assert cloud.names() == ["cpu-0", "scheduler"]


def test_cluster_keeps_nodes_if_time_runs_out(
    cloud: Cloud, applied: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Cluster.adopt(applied()) as cluster:
        cluster.scale(2)
        cluster.wait_for_workers(2, timeout=120)
        real = cloud.scheduler.handlers["retire_workers"]
        monkeypatch.setattr(speccluster, "RETIRE_TIMEOUT", 0.5)
        cloud.scheduler.handlers["retire_workers"] = never
        cluster.scale(1)
        with pytest.raises(PlanapplyError, match=r"timed out after 0\.5 s"):
            apply_pending(cluster)
        monkeypatch.setattr(speccluster, "RETIRE_TIMEOUT", 60.0)
        cloud.scheduler.handlers["retire_workers"] = real


def test_last_worker_of_a_cluster_leaves_with_a_warning(
    cloud: Cloud, applied: Open, caplog: pytest.LogCaptureFixture
) -> None:
    with Cluster.adopt(applied()) as cluster, Client(cluster) as client:
        cluster.scale(1)
        cluster.wait_for_workers(1, timeout=120)
        held = hold(client, "cpu-0")
        with caplog.at_level(logging.WARNING, "planapply"):
            cluster.scale(0)
            apply_pending(cluster)
        assert cloud.names() == ["scheduler"]
        assert "results of cpu-0 are lost: no worker stays to take them over" in caplog.text
        del held


def warnings(workspace: Workspace, **options: Any) -> list[str]:
    return [str(d) for d in plan(workspace, PlanOptions(**options)).plan.diagnostics]


NOBODY = COUNTS.replace("count = 3", "count = 0")


def test_plan_says_what_it_would_lose(cloud: Cloud, applied: Open, workspace: Open) -> None:
    applied(COUNTS)
    assert warnings(workspace(NOBODY)) == []  # there are no results
    with Client(cloud.scheduler.address) as client:
        held = hold(client, "cpu-1")
        assert warnings(workspace(NOBODY)) == snapshot(
            [
                """\
in use: 1 client, 1.0 MiB of results that will be lost
To keep the results, save them first; or change the cluster in several steps in which some workers stay, with --target.\
"""
            ]
        )
        [lost] = warnings(workspace(NOBODY))
        at_once = COUNTS.replace("count = 3", 'count = 3\nmax_unavailable = "100%"')
        assert warnings(workspace(at_once), replace=("cpu",)) == [lost]
        assert warnings(workspace(COUNTS), replace=("scheduler",)) == snapshot(
            [
                """\
in use: 1 client, 1.0 MiB of results that will be lost
To keep the results, save them first.\
"""
            ]
        )
        assert warnings(workspace(NOBODY), refresh=False) == snapshot(
            [
                """\
this plan terminates every worker: the results in their memory will be lost
planapply cannot tell whether there are any: --no-refresh does not ask the scheduler. To keep them, save them first; or change the cluster in several steps in which some workers stay, with --target.\
"""
            ]
        )
        cpu = {"mode": Mode.DESTROY, "targets": ("cpu",)}
        assert warnings(workspace(), **cpu) == warnings(workspace(NOBODY))
        # A worker stays.
        assert warnings(workspace(FEWER)) == []
        assert warnings(workspace(COUNTS), replace=("cpu-1",)) == []
        assert warnings(workspace(COUNTS), replace=("cpu",)) == []
        assert warnings(workspace(), mode=Mode.DESTROY) == snapshot(
            [
                """\
in use: 1 client, 1.0 MiB of results that will be lost
To keep the results, save them first.\
"""
            ]
        )
        del held
    cloud.scheduler.handlers["nbytes"] = lambda **_: {"a": "b"}
    assert warnings(workspace(NOBODY)) == snapshot(
        [
            """\
this plan terminates every worker: the results in their memory will be lost
planapply cannot tell whether there are any: the scheduler does not answer. To keep them, save them first; or change the cluster in several steps in which some workers stay, with --target.\
"""
        ]
    )
    cloud.stop_servers("scheduler")
    assert len(warnings(workspace(NOBODY))) == 1
    assert warnings(workspace(), mode=Mode.DESTROY) == []
