"""Thousands of nodes, in as few requests and writes of the state as one batch."""

from cluster.conftest import SPEC, Open
from cluster.helpers import apply_pending
from cluster.inprocess import HANDLE_ONLY, Cloud

from planapply import Cluster
from planapply.ops.plan import plan

MANY = SPEC.replace("max = 8", "max = 5000").replace("distributed.Worker", HANDLE_ONLY)

MAX_WRITES = 15  # of the state, in one change


def test_5000_nodes_scale_in_one_batch_each_way(
    cloud: Cloud, applied: Open, workspace: Open
) -> None:
    with Cluster.adopt(applied(MANY)) as cluster:
        launches, writes = cloud.calls["launch"], workspace(MANY).read().serial
        cluster.scale(5000)
        apply_pending(cluster)
        assert len(cluster.workers) == len(cluster.plan) == 5000
        assert cloud.calls["launch"] == launches + 5000 // cloud.limits.batch
        assert workspace(MANY).read().serial - writes <= MAX_WRITES
        assert not plan(workspace(MANY)).plan.changes
        writes = workspace(MANY).read().serial
        cluster.scale(0)
        apply_pending(cluster)
        assert not cluster.workers
        assert cloud.calls["terminate"] == 1
        assert workspace(MANY).read().serial - writes <= MAX_WRITES
    assert cloud.names() == ["scheduler"]


def test_adopting_5000_nodes_makes_one_call(cloud: Cloud, applied: Open, workspace: Open) -> None:
    with Cluster.adopt(applied(MANY)) as cluster:
        cluster.scale(5000)
    finds, launches = cloud.calls["find"], cloud.calls["launch"]
    with Cluster.adopt(workspace(MANY)) as cluster:
        assert len(cluster.workers) == 5000
    assert cloud.calls["find"] == finds + 1
    assert cloud.calls["launch"] == launches
