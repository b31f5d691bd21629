"""Nodes that the scheduler has lost, whose VMs may still exist."""

import asyncio

import pytest
from cluster.conftest import SPEC, Open
from cluster.helpers import apply_pending, wait_until
from cluster.inprocess import Cloud
from distributed.core import Status

from planapply import Cluster
from planapply.api.context import make_node_entry
from planapply.api.state_session import StateSession
from planapply.dask.batching import RequestQueue
from planapply.dask.handles import VMScheduler
from planapply.model.names import SCHEDULER
from planapply.model.plan import ChangeReason
from planapply.ops.plan import plan
from planapply.ops.scale import open_as_owner

FIXED = SPEC.replace("min = 0\nmax = 8", "count = 2")


def scaled(cluster: Cluster, nodes: int) -> None:
    cluster.scale(nodes)
    apply_pending(cluster)
    wait_until(lambda: len(cluster.scheduler_info["workers"]) == nodes)


def test_existing_vm_is_kept(cloud: Cloud, applied: Open, caplog: pytest.LogCaptureFixture) -> None:
    with Cluster.adopt(applied()) as cluster:
        scaled(cluster, 2)
        cloud.stop_servers("cpu-1")
        wait_until(
            lambda: "cpu-1 has left the scheduler, but its VM exists and is kept" in caplog.text
        )
        assert sorted(cluster.workers) == ["cpu-0", "cpu-1"]
        assert cluster.plan == {"cpu-0", "cpu-1"}
        assert cluster.observed == {"cpu-0"}
    assert cloud.names() == ["cpu-0", "cpu-1", "scheduler"]
    assert cloud.calls["terminate"] == 0


def test_lost_elastic_node_is_dropped(cloud: Cloud, applied: Open, workspace: Open) -> None:
    with Cluster.adopt(applied()) as cluster:
        scaled(cluster, 2)
        handle = cluster.workers["cpu-1"]
        cloud.remove_vm("cpu-1")
        wait_until(lambda: "cpu-1" not in cluster.workers)
        wait_until(lambda: handle.status == Status.closed)
        assert [*cluster.worker_spec] == ["cpu-0"]
        # It is not launched again, neither from the record of the lost VM nor otherwise.
        apply_pending(cluster)
        assert [*workspace().read().nodes] == ["scheduler", "cpu-0"]
        cluster.scale(2)
        apply_pending(cluster)
        assert sorted(cluster.workers) == ["cpu-0", "cpu-2"]
    assert not plan(workspace()).plan.changes


def test_lost_count_node_is_restored_by_apply(
    cloud: Cloud, applied: Open, workspace: Open, caplog: pytest.LogCaptureFixture
) -> None:
    with Cluster.adopt(applied(FIXED), scheduler_sync_interval=0.01) as cluster:
        cloud.remove_vm("cpu-1")
        wait_until(lambda: "cpu-1" not in cluster.worker_spec)
        # Reading the state again, which still has the node, does not restore it.
        cloud.stop_servers("cpu-0")
        wait_until(lambda: "cpu-0 has left the scheduler, but its VM exists" in caplog.text)
        cluster.sync(cluster._apply_identity, {"workers": {}})
        assert [*cluster.worker_spec] == ["cpu-0"]
        assert "cpu-1 was lost: its VM no longer exists. Run `planapply apply`" in caplog.text
        apply_pending(cluster)
        assert [*cluster.workers] == ["cpu-0"]
    [change] = plan(workspace(FIXED)).plan.changes
    assert (change.name, change.action.value) == ("cpu-1", "create")
    assert change.reason is ChangeReason.VM_GONE
    assert cloud.names() == ["cpu-0", "scheduler"]


def test_node_is_lost_with_its_last_worker(cloud: Cloud, applied: Open) -> None:
    with Cluster.adopt(applied(SPEC.replace("max = 8", "max = 8\nprocesses = 2"))) as cluster:
        cluster.scale(1)
        apply_pending(cluster)
        wait_until(lambda: len(cluster.scheduler_info["workers"]) == 2)
        vm = cloud.vm("cpu-0")
        first, _ = cloud.servers[vm.id]
        cloud.run(first.close())
        wait_until(lambda: len(cluster.scheduler_info["workers"]) == 1)
        wait_until(lambda: not cluster._timers)
        assert [*cluster.workers] == ["cpu-0"]
        assert cloud.calls["terminate"] == 0
        cloud.remove_vm("cpu-0")
        wait_until(lambda: not cluster.workers)


def test_unavailable_cloud_changes_nothing(
    cloud: Cloud, applied: Open, workspace: Open, caplog: pytest.LogCaptureFixture
) -> None:
    with Cluster.adopt(applied(), lock_timeout=0.0) as cluster:
        scaled(cluster, 1)
        with workspace().store.lock("apply"):
            cloud.remove_vm("cpu-0")
            wait_until(lambda: "cpu-0 has left the scheduler; keeping it as it is" in caplog.text)
            assert [*cluster.workers] == ["cpu-0"]
        # The next change sees that it was lost.
        cluster.scale(1)
        apply_pending(cluster)
        assert [*cluster.workers] == ["cpu-1"]


def test_cluster_that_owns_its_vms_launches_a_replacement(cloud: Cloud, workspace: Open) -> None:
    opened = workspace(FIXED)
    session = StateSession(lambda: open_as_owner(opened, None, 0.0, lambda event: None))
    queue = RequestQueue(session.open_fleet)
    made = plan(opened).plan
    configs = {c.name: made.configs[c.after] for c in made.changes if c.after}

    async def main() -> None:
        scheduler = {
            "cls": VMScheduler,
            "options": {"config": configs.pop(SCHEDULER), "queue": queue},
        }
        workers = {name: make_node_entry(queue, name, config) for name, config in configs.items()}
        async with Cluster(workers, scheduler, asynchronous=True) as cluster:
            while cluster.observed != {"cpu-0", "cpu-1"}:
                await asyncio.sleep(0.01)
            lost = cluster.workers["cpu-1"].record.vm
            await asyncio.to_thread(cloud.remove_vm, "cpu-1")
            while "cpu-1" in cluster.workers:
                await asyncio.sleep(0.01)
            assert [*cluster.worker_spec] == ["cpu-0", "cpu-1"]
            await cluster
            assert cluster.workers["cpu-1"].record.vm != lost

    asyncio.run(main())
    assert cloud.names() == []
    assert workspace(FIXED).read().is_empty
