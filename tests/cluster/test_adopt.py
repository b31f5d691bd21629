"""Opening a running cluster, and leaving it running."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import distributed
import pytest
from cluster.conftest import SPEC, Open
from cluster.helpers import apply_pending, change_state, wait_for_other_tasks, wait_until
from cluster.inprocess import Cloud, CloudWorkspace
from distributed import Client
from distributed.core import Status
from distributed.deploy.spec import close_clusters

import planapply
from planapply import Cluster
from planapply.api.cluster import StateBackedCluster
from planapply.fleet.tls import make_tls
from planapply.model.diagnostics import PlanapplyError
from planapply.ops.plan import plan
from planapply.store import tlsfiles

MIXED = (
    SPEC.replace("min = 0", "min = 1") + '[workers.io]\ncount = 1\nclass = "distributed.Worker"\n'
)
NODES = ["cpu-0", "io-0", "scheduler"]


def test_adopt_launches_nothing(cloud: Cloud, applied: Open) -> None:
    workspace = applied(MIXED)
    before = cloud.calls["launch"]
    with Cluster.adopt(workspace) as cluster:
        assert cluster.status == Status.running
        assert cluster.plan == cluster.requested == cluster.observed == {"cpu-0", "io-0"}
        assert {handle.status for handle in cluster.workers.values()} == {Status.running}
        assert cluster.name == "zoo"
        assert repr(cluster).startswith("Cluster(zoo, 'tcp://127.0.0.1:")
        assert str(cloud.scheduler.http_server.port) in cluster.dashboard_link
        assert {"Cluster", "Scheduler"} < cluster.get_logs().keys()
        with cluster.get_client() as client:
            assert client.submit(sum, [1, 2]).result() == 3
    assert cloud.calls["launch"] == before
    assert cloud.names() == NODES
    assert cloud.calls["terminate"] == 0


def leave_with(cluster: Cluster) -> None:
    with cluster:
        pass


def leave_with_error(cluster: Cluster) -> None:
    with pytest.raises(ZeroDivisionError), cluster:
        raise ZeroDivisionError


def leave_by_client(cluster: Cluster) -> None:
    client = Client(cluster)
    client.shutdown()
    assert cluster.status == Status.closed
    client._loop_runner.stop()  # as for any cluster, shutdown() leaves the loop's thread running
    cluster.close()


def leave_at_exit(cluster: Cluster) -> None:
    close_clusters()


def leave_twice(cluster: Cluster) -> None:
    cluster.close()
    cluster.close()


@pytest.mark.parametrize(
    "leave",
    [Cluster.close, leave_with, leave_with_error, leave_by_client, leave_at_exit, leave_twice],
)
def test_close_leaves_the_cluster_running(
    leave: Callable[[Cluster], object], cloud: Cloud, applied: Open
) -> None:
    workspace = applied(MIXED)
    cluster = Cluster.adopt(workspace)
    leave(cluster)
    assert cluster.status == Status.closed
    assert cloud.names() == NODES
    assert cloud.calls["terminate"] == 0
    with Cluster.adopt(workspace) as again:
        assert again.observed == {"cpu-0", "io-0"}


def test_adopt_in_an_event_loop(cloud: Cloud, applied: Open) -> None:
    async def main() -> None:
        async with (
            Cluster.adopt(applied_spec, asynchronous=True) as cluster,
            Client(cluster, asynchronous=True) as client,
        ):
            assert await client.submit(sum, [1, 2]) == 3
        cluster = await Cluster.adopt(applied_spec, asynchronous=True)
        first, second = await asyncio.gather(cluster, cluster)
        assert first is second
        await asyncio.gather(cluster.close(), cluster.close())
        await wait_for_other_tasks()

    applied_spec = applied(MIXED)
    asyncio.run(main())
    assert cloud.names() == NODES


def test_two_tasks_await_a_starting_cluster(cloud: Cloud, applied: Open) -> None:
    async def main() -> None:
        cluster = Cluster.adopt(workspace, asynchronous=True)
        await asyncio.gather(cluster, cluster)
        assert cluster.observed == {"cpu-0", "io-0"}
        await cluster.close()

    workspace = applied(MIXED)
    asyncio.run(main())


def test_unresponsive_scheduler_is_reported(cloud: Cloud, applied: Open) -> None:
    workspace = applied(MIXED)
    address = cloud.scheduler.address
    cloud.stop_servers("scheduler")
    with pytest.raises(PlanapplyError) as raised:
        Cluster.adopt(workspace, timeout=0.1)
    [error] = raised.value.diagnostics
    assert (
        error.summary
        == f"cannot reach the scheduler of cluster 'zoo' at {address}: Connection refused"
    )
    assert "Check with `planapply status` that its VM is running" in error.detail
    assert cloud.names() == NODES
    assert cloud.calls["terminate"] == 0

    async def main() -> None:
        cluster = Cluster.adopt(workspace, timeout=0.1, asynchronous=True)
        with pytest.raises(PlanapplyError, match="cannot reach the scheduler"):
            await cluster
        assert cluster.status == Status.closed

    asyncio.run(main())


def test_adopt_before_any_apply_is_an_error(workspace: Open) -> None:
    with pytest.raises(PlanapplyError, match=r"there is no state at .*zoo\.state\.json"):
        Cluster.adopt(workspace())


def test_lost_scheduler_vm_is_reported(cloud: Cloud, applied: Open) -> None:
    workspace = applied()
    cloud.remove_vm("scheduler")
    with pytest.raises(
        PlanapplyError, match="cannot attach to cluster 'zoo': its scheduler does not exist"
    ):
        Cluster.adopt(workspace)


def test_name_is_that_of_the_spec(cloud: Cloud, applied: Open) -> None:
    workspace = applied()
    scheduler = cloud.scheduler

    async def rename() -> None:
        scheduler.set_metadata(["cluster-manager-info"], {"name": "else", "type": "x"})

    cloud.run(rename())
    with Cluster.adopt(workspace) as cluster:
        assert cluster.name == "zoo"
        wait_until(lambda: scheduler.get_metadata(["cluster-manager-info"])["name"] == "zoo")


def test_lost_worker_vm_is_dropped(cloud: Cloud, applied: Open, workspace: Open) -> None:
    opened = applied(MIXED.replace("min = 1", "min = 0"))
    with Cluster.adopt(opened) as cluster:
        cluster.scale(3)
    cloud.remove_vm("cpu-1")
    cloud.remove_vm("io-0")
    with Cluster.adopt(opened) as cluster:
        assert cluster.plan == {"cpu-0", "cpu-2"}
        # The next change removes it from the state, and its index is never used again.
        cluster.scale(3)
        apply_pending(cluster)
        assert cluster.plan == {"cpu-0", "cpu-2", "cpu-3"}
    # The lost node of a `count` group is replaced by `apply`.
    changes = plan(opened).plan.changes
    assert [(change.name, change.action.value) for change in changes] == [("io-0", "create")]


@pytest.mark.parametrize("make", [Cluster.adopt, StateBackedCluster])
def test_opened_cluster_is_a_cluster(make: Callable[[CloudWorkspace], Any], applied: Open) -> None:
    with make(applied()) as cluster:
        assert type(cluster) is StateBackedCluster
        assert isinstance(cluster, planapply.Cluster)
        assert isinstance(cluster, distributed.SpecCluster)
        # It is shown as what users call it.
        assert repr(cluster).startswith("Cluster(zoo, ")
        assert ">Cluster zoo<" in cluster._repr_html_()
        assert "StateBackedCluster" not in cluster._repr_html_()


def test_derived_classes(applied: Open) -> None:
    class Opened(StateBackedCluster):
        """A class for opened clusters."""

    class Created(Cluster):
        """A class for created clusters."""

    workspace = applied()
    with Opened.adopt(workspace) as cluster:
        assert type(cluster) is Opened
        assert repr(cluster).startswith("Opened(zoo, ")
        assert ">Opened zoo<" in cluster._repr_html_()
    with pytest.raises(
        TypeError, match=r"derive Created from planapply\.api\.cluster\.StateBacked"
    ):
        Created.adopt(workspace)


def test_unsupported_options_are_refused(applied: Open) -> None:
    with pytest.raises(
        TypeError, match="cannot pass workers: of SpecCluster's arguments, a cluster"
    ):
        Cluster.adopt(applied(), workers={})  # type: ignore[call-arg]


def test_closed_cluster_cannot_be_changed(applied: Open) -> None:
    cluster = Cluster.adopt(applied())
    cluster.close()
    with pytest.raises(RuntimeError, match="cannot scale the cluster: it is closed"):
        cluster.scale(1)
    with pytest.raises(RuntimeError, match="cannot adapt the cluster: it is closed"):
        cluster.adapt()


def test_spec_warnings_are_emitted(applied: Open, workspace: Open) -> None:
    applied()
    opened = workspace(SPEC.replace("distributed.Worker", "distributed.Woker"))
    with pytest.warns(UserWarning, match="the class `distributed.Woker` is not a worker"):
        Cluster.adopt(opened).close()


def test_destroy(cloud: Cloud, applied: Open) -> None:
    cluster = Cluster.adopt(applied(MIXED))
    cluster.destroy()
    assert cluster.status == Status.closed
    assert cloud.names() == []


def test_destroy_removes_the_key_files(
    applied: Open, workspace: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cluster = Cluster.adopt(applied())
    # This cluster has no TLS: give it a key, and the files of `planapply env`.
    change_state(workspace(), lambda state: setattr(state, "tls", make_tls("zoo")))
    state = workspace().read()
    assert state.tls is not None
    files = tlsfiles.write(state.lineage, state.tls)
    assert all(Path(file).is_relative_to(tmp_path) and Path(file).exists() for file in files)
    cluster.destroy()
    assert not any(Path(file).parent.exists() for file in files)
    assert workspace().read().tls is None


def test_destroy_in_an_event_loop(cloud: Cloud, applied: Open) -> None:
    async def main() -> None:
        cluster = await Cluster.adopt(workspace, asynchronous=True)
        destroying = cluster.destroy()
        assert destroying is not None
        await destroying

    workspace = applied(MIXED)
    asyncio.run(main())
    assert cloud.names() == []


def test_destroy_reports_failures(cloud: Cloud, applied: Open) -> None:
    cluster = Cluster.adopt(applied(MIXED))
    cloud.refuse_terminate = True
    with pytest.raises(PlanapplyError, match="terminating VMs is not permitted"):
        cluster.destroy()
    cloud.refuse_terminate = False
    assert cloud.names() == NODES


PROTECTED = SPEC.replace("[workers", "protect = true\n[workers", 1)


def test_protected_cluster_is_not_destroyed(cloud: Cloud, applied: Open) -> None:
    with Cluster.adopt(applied(PROTECTED)) as cluster:
        with pytest.raises(PlanapplyError, match="protected"):
            cluster.destroy()
        cluster.scale(2)  # the object is as it was
        apply_pending(cluster)
        assert cloud.names() == ["cpu-0", "cpu-1", "scheduler"]


def test_protected_cluster_is_not_destroyed_in_an_event_loop(cloud: Cloud, applied: Open) -> None:
    async def main() -> None:
        async with Cluster.adopt(workspace, asynchronous=True) as cluster:
            with pytest.raises(PlanapplyError, match="protected"):
                await cluster.destroy()
            cluster.scale(1)
            await cluster
            assert cloud.names() == ["cpu-0", "scheduler"]

    workspace = applied(PROTECTED)
    asyncio.run(main())


def test_protect_allows_scale_but_not_a_plan(cloud: Cloud, applied: Open, workspace: Open) -> None:
    with Cluster.adopt(applied(PROTECTED)) as cluster:
        cluster.scale(3)
        apply_pending(cluster)
        cluster.scale(2)
        apply_pending(cluster)
        assert cloud.names() == ["cpu-0", "cpu-1", "scheduler"]
    with pytest.raises(
        PlanapplyError, match="cannot destroy or replace cpu-1: the cluster is protected"
    ):
        plan(workspace(PROTECTED.replace("max = 8", "max = 1")))


def test_adopt_from_a_state_alone(
    cloud: Cloud, applied: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = applied(MIXED)
    without_spec = CloudWorkspace(workspace.store, cloud=cloud)
    with Cluster.adopt(without_spec) as cluster:
        assert cluster.name == "zoo"
        assert cluster.observed == {"cpu-0", "io-0"}
        assert cluster._supports_scaling  # by the spec that the state records
    assert not [r for r in caplog.records if r.name == "planapply" and r.levelno > logging.INFO]
