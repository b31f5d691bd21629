"""Scaling an adopted cluster: under the state's lock, with what others did in between."""

import asyncio
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from cluster.conftest import SPEC, Open
from cluster.helpers import change_state, count_runs, runs, settle, until
from cluster.inprocess import Cloud, CloudWorkspace
from distributed import Client, Worker
from distributed.core import Status

from planapply import Cluster
from planapply.model.diagnostics import PlanapplyError
from planapply.model.names import from_ranges
from planapply.model.state import Choice, Intent, State
from planapply.ops.plan import plan
from planapply.provider import Price
from planapply.store import StateLocked

PAIRS = SPEC.replace("max = 8", "max = 8\nprocesses = 2")
TWO = SPEC + '[workers.gpu]\nmin = 1\nmax = 2\nclass = "distributed.Worker"\n'
FIXED = SPEC + '[workers.io]\ncount = 1\nclass = "distributed.Worker"\n'


def nodes(*ranges: str) -> list[str]:
    return sorted([*from_ranges(ranges), "scheduler"])


def no_changes(workspace: CloudWorkspace) -> bool:
    return not plan(workspace).plan.changes


def test_from_2_to_4_and_back_no_task_runs_twice(
    cloud: Cloud, applied: Open, workspace: Open, tmp_path: Path
) -> None:
    with Cluster.adopt(applied()) as cluster, Client(cluster) as client:
        cluster.scale(2)
        assert [*cluster.worker_spec] == ["cpu-0", "cpu-1"]  # at once, as in SpecCluster
        cluster.wait_for_workers(2, timeout=120)
        futures = count_runs(client, tmp_path / "log", 20)
        client.gather(futures)
        cluster.scale(4)
        cluster.wait_for_workers(4, timeout=120)
        futures += count_runs(client, tmp_path / "log", 20)
        client.gather(futures)
        cluster.scale(2)
        settle(cluster)
        assert client.gather(futures) == [*range(20), *range(20)]
    assert runs(tmp_path / "log") == sorted([*range(20), *range(20)])
    assert cloud.names() == nodes("cpu-[0..1]")
    assert no_changes(workspace())


def test_an_index_is_never_given_twice(cloud: Cloud, applied: Open, workspace: Open) -> None:
    with Cluster.adopt(applied()) as cluster:
        for number in (3, 1, 2, 0, 1):
            cluster.scale(number)
            settle(cluster)
        assert [*cluster.workers] == ["cpu-4"]
    with Cluster.adopt(workspace()) as cluster:
        cluster.scale(2)
    assert cloud.asked == ["scheduler", *(f"cpu-{i}" for i in range(6))]
    assert no_changes(workspace())


def test_the_next_worker_has_the_next_name(applied: Open) -> None:
    with Cluster.adopt(applied(PAIRS)) as cluster:
        cluster.scale(2)
        settle(cluster)
        cluster.scale(1)
        settle(cluster)
        [(name, entry)] = cluster.new_worker_spec().items()
        assert name == "cpu-2"
        assert entry["group"] == ["-0", "-1"]
        assert cluster._supports_scaling


def test_changes_of_mind_end_nobody(cloud: Cloud, applied: Open) -> None:
    async def main() -> None:
        async with Cluster.adopt(workspace, asynchronous=True) as cluster:
            cluster.scale(3)
            await cluster
            cluster.scale(1)
            cluster.scale(4)
            await cluster
            assert [*cluster.workers] == ["cpu-0", "cpu-1", "cpu-2", "cpu-3"]

    workspace = applied()
    asyncio.run(main())
    assert cloud.calls["terminate"] == 0


def test_what_is_asked_during_a_change_is_the_next_change(
    cloud: Cloud, applied: Open, workspace: Open
) -> None:
    async def main() -> None:
        async with Cluster.adopt(opened, asynchronous=True) as cluster:
            cluster.scale(2)
            await cluster
            cloud.gate = threading.Event()
            cluster.scale(1)
            while not cloud.calls["terminate"]:
                await asyncio.sleep(0.01)
            cluster.scale(3)
            assert len(cluster.worker_spec) == 3
            cloud.gate.set()
            await cluster
            assert sorted(cluster.workers) == ["cpu-0", "cpu-2", "cpu-3"]

    opened = applied()
    asyncio.run(main())
    state = workspace().read()
    assert state.next_index == {"cpu": 4}
    assert no_changes(workspace())


def test_what_was_asked_is_done_before_it_leaves(cloud: Cloud, applied: Open) -> None:
    async def main() -> None:
        async with Cluster.adopt(workspace, asynchronous=True) as cluster:
            cluster.scale(2)

    workspace = applied()
    asyncio.run(main())
    assert cloud.names() == nodes("cpu-[0..1]")
    with Cluster.adopt(workspace) as cluster:
        cluster.scale(1)
    assert cloud.names() == nodes("cpu-0")


def test_what_another_process_did_is_taken_over(
    cloud: Cloud, applied: Open, workspace: Open
) -> None:
    with Cluster.adopt(applied()) as first, Cluster.adopt(workspace()) as second:
        first.scale(3)
        settle(first)
        second.scale(4)
        settle(second)
        assert [*second.workers] == ["cpu-0", "cpu-1", "cpu-2", "cpu-3"]
        first.scale(2)
        settle(first)
        assert sorted(first.workers) == ["cpu-0", "cpu-1"]
        second.scale(3)
        settle(second)
        assert sorted(second.workers) == ["cpu-0", "cpu-1", "cpu-4"]
    assert cloud.names() == nodes("cpu-[0..1]", "cpu-4")
    assert no_changes(workspace())


def test_both_ask_for_the_same_at_once(cloud: Cloud, applied: Open, workspace: Open) -> None:
    with Cluster.adopt(applied()) as first, Cluster.adopt(workspace()) as second:
        first.scale(4)
        second.scale(4)
        settle(first)
        settle(second)
        assert sorted(first.workers) == sorted(second.workers) == from_ranges(["cpu-[0..3]"])
    assert cloud.names() == nodes("cpu-[0..3]")


def test_nodes_that_another_process_launched_are_seen(applied: Open, workspace: Open) -> None:
    first = Cluster.adopt(applied(), scheduler_sync_interval=0.02)
    with first, Cluster.adopt(workspace()) as second:
        second.scale(2)
        until(lambda: sorted(first.workers) == ["cpu-0", "cpu-1"])
        assert first.plan == first.requested == {"cpu-0", "cpu-1"}
        second.scale(1)
        until(lambda: [*first.workers] == ["cpu-0"])


def test_a_worker_that_was_started_by_hand_is_nobody_s_node(cloud: Cloud, applied: Open) -> None:
    with Cluster.adopt(applied(), scheduler_sync_interval=0.02) as cluster:

        async def start() -> Worker:
            return await Worker(cloud.scheduler.address, name="mine", nthreads=1)

        mine = cloud.run(start())
        until(lambda: cluster.observed == {"mine"})
        cluster.scale(1)
        settle(cluster)
        assert [*cluster.workers] == ["cpu-0"]
        cloud.run(mine.close())


@pytest.mark.parametrize(
    ("spec", "scale", "told"),
    [
        (SPEC, {"n": -1}, "-1 nodes of 'cpu' are outside min = 0, max = 8 of the spec"),
        (SPEC, {"n": 9}, "9 nodes of 'cpu' are outside min = 0, max = 8 of the spec"),
        (
            TWO,
            {"n": 0, "group": "gpu"},
            "0 nodes of 'gpu' are outside min = 1, max = 2 of the spec",
        ),
        (TWO, {"n": 1}, "say which group: scale(n, group=…); elastic groups: cpu, gpu"),
        (
            FIXED,
            {"n": 1, "group": "io"},
            "the group 'io' has a `count`, which `planapply apply` changes; elastic groups: cpu",
        ),
        (SPEC, {"n": 1, "group": "x"}, "there is no group 'x'; elastic groups: cpu"),
        (SPEC, {"cores": 9}, "9 nodes of 'cpu' are outside min = 0, max = 8 of the spec"),
    ],
)
def test_what_the_spec_does_not_allow(
    spec: str, scale: dict[str, Any], told: str, applied: Open
) -> None:
    with Cluster.adopt(applied(spec)) as cluster:
        before = [*cluster.worker_spec]
        with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
            cluster.scale(**scale)
        assert [*cluster.worker_spec] == before


def test_one_group_of_two(cloud: Cloud, applied: Open) -> None:
    with Cluster.adopt(applied(TWO)) as cluster:
        cluster.scale(2, group="gpu")
        settle(cluster)
        cluster.scale(1, group="cpu")
        settle(cluster)
        cluster.scale(1, group="gpu")
    assert cloud.names() == nodes("cpu-0", "gpu-0")


def test_cores_and_memory_are_those_of_nodes(cloud: Cloud, applied: Open) -> None:
    spec = PAIRS.replace("nthreads = 1", 'nthreads = 2, memory_limit = "1 GiB"')
    with Cluster.adopt(applied(spec)) as cluster:
        cluster.scale(cores=9)
        assert len(cluster.worker_spec) == 3
        cluster.scale(memory="3 GiB")
        assert len(cluster.worker_spec) == 2


def test_cores_and_memory_as_the_first_node_says(cloud: Cloud, applied: Open) -> None:
    spec = SPEC.replace("{ nthreads = 1 }", "{ memory_limit = 0.01 }")
    with Cluster.adopt(applied(spec)) as cluster:
        for asked in ({"cores": 2}, {"memory": "2 GiB"}):
            with pytest.raises(ValueError, match="not known before one has joined"):
                cluster.scale(**asked)
        cluster.scale(1)
        cluster.wait_for_workers(1, timeout=120)
        [worker] = cluster.scheduler_info["workers"].values()
        cluster.scale(memory=worker["memory_limit"] * 3)
        assert len(cluster.worker_spec) == 3


def test_good_nodes_of_a_batch_are_kept(cloud: Cloud, applied: Open, workspace: Open) -> None:
    async def main() -> None:
        async with Cluster.adopt(opened, asynchronous=True) as cluster:
            cluster.scale(6)
            with pytest.raises(PlanapplyError) as raised:
                await cluster
            assert [told.summary for told in raised.value.diagnostics] == [
                "cpu-2: there is no room for it",
                "cpu-4: there is no room for it",
            ]
            assert sorted(cluster.failures) == ["cpu-2", "cpu-4"]
            assert sorted(cluster.workers) == ["cpu-0", "cpu-1", "cpu-3", "cpu-5"]
            # Their numbers were theirs: who wants more gets others.
            assert cluster.worker_spec.keys() == cluster.workers.keys()
            cluster.scale(6)
            await cluster
            assert not cluster.failures
            assert sorted(cluster.workers) == ["cpu-0", "cpu-1", "cpu-3", "cpu-5", "cpu-6", "cpu-7"]

    opened = applied()
    cloud.refused = {"cpu-2", "cpu-4"}
    asyncio.run(main())
    assert no_changes(workspace())


def test_a_failure_that_nobody_awaits_is_logged(
    cloud: Cloud, applied: Open, caplog: pytest.LogCaptureFixture
) -> None:
    cloud.refused = {"cpu-0"}
    with Cluster.adopt(applied()) as cluster:
        cluster.scale(2)
        until(lambda: cluster.failures and "no room" in caplog.text)  # noted first, then told
        assert "cpu-0: there is no room for it\nWait." in caplog.text
        assert [*cluster.workers] == ["cpu-1"]


def test_nodes_that_can_not_be_ended_are_tried_again(
    cloud: Cloud, applied: Open, workspace: Open
) -> None:
    opened = applied()

    async def main() -> None:
        async with Cluster.adopt(opened, asynchronous=True) as cluster:
            cluster.scale(2)
            await cluster
            cloud.stuck = True
            cluster.scale(1)
            with pytest.raises(PlanapplyError, match="cpu-1: you may not end VMs"):
                await cluster
            assert cluster.plan == {"cpu-0"}
            assert cluster.workers["cpu-1"].status == Status.failed
            assert cloud.names() == nodes("cpu-[0..1]")
            cloud.stuck = False
            await cluster
            assert [*cluster.workers] == ["cpu-0"]

    asyncio.run(main())
    assert cloud.names() == nodes("cpu-0")
    assert no_changes(workspace())


def test_leaving_does_not_hang_on_an_end_that_fails(
    cloud: Cloud, applied: Open, caplog: pytest.LogCaptureFixture
) -> None:
    with Cluster.adopt(applied()) as cluster:
        cluster.scale(1)
        settle(cluster)
        cloud.stuck = True
        cluster.scale(0)
    assert cluster.status == Status.closed
    assert "left before all that was asked was done" in caplog.text
    cloud.stuck = False


def test_a_locked_state_is_waited_for(applied: Open, workspace: Open) -> None:
    opened = applied()

    async def main() -> None:
        async with Cluster.adopt(opened, lock_timeout=0.0, asynchronous=True) as cluster:
            with workspace().store.lock("apply"):
                cluster.scale(1)
                with pytest.raises(StateLocked):
                    await cluster
            await cluster  # it is still asked for
            assert [*cluster.workers] == ["cpu-0"]

    asyncio.run(main())


def test_leaving_that_takes_too_long_can_be_tried_again(
    cloud: Cloud, applied: Open, workspace: Open
) -> None:
    cluster = Cluster.adopt(applied())
    with workspace().store.lock("apply"):
        cluster.scale(1)
        with pytest.raises(TimeoutError):
            cluster.close(timeout=0.1)
        until(lambda: cluster.status == Status.failed)
    cluster.close()
    assert cluster.status == Status.closed


def test_a_scheduler_that_ended_gets_no_more_workers(cloud: Cloud, applied: Open) -> None:
    async def main() -> None:
        async with Cluster.adopt(opened, asynchronous=True) as cluster:
            await asyncio.to_thread(cloud.end, "scheduler")
            cluster.scale(1)
            with pytest.raises(PlanapplyError, match="was ended or replaced meanwhile"):
                await cluster

    opened = applied()
    asyncio.run(main())
    assert cloud.names() == []


def test_scale_down_by_any_name(cloud: Cloud, applied: Open) -> None:
    with Cluster.adopt(applied(PAIRS)) as cluster:
        cluster.scale(4)
        cluster.wait_for_workers(8, timeout=120)
        address = next(
            a for a, w in cluster.scheduler_info["workers"].items() if w["name"] == "cpu-2-1"
        )
        # A Dask worker's name, an address, a node's name, and one that nobody knows.
        cluster.sync(cluster.scale_down, ["cpu-0-1", address, "cpu-3", "who"])
        assert [*cluster.workers] == ["cpu-1"]
        assert cluster.plan == {"cpu-1-0", "cpu-1-1"}
    assert cloud.names() == nodes("cpu-1")


def test_scale_down_keeps_to_the_spec(cloud: Cloud, applied: Open) -> None:
    with Cluster.adopt(applied(FIXED.replace("min = 0", "min = 1"))) as cluster:
        with pytest.raises(ValueError, match="0 nodes of 'cpu' are outside min = 1"):
            cluster.sync(cluster.scale_down, ["cpu-0"])
        with pytest.raises(ValueError, match="the group 'io' has a `count`"):
            cluster.sync(cluster.scale_down, ["io-0"])
        del cluster.worker_spec["io-0"]  # by hand
        cluster.scale(2)
        settle(cluster)
        assert "io-0" in cluster.workers
        assert "io-0" in cluster.worker_spec
    assert cloud.names() == nodes("cpu-[0..1]", "io-0")


def test_scale_down_of_what_is_still_asked_for(cloud: Cloud, applied: Open) -> None:
    async def main() -> None:
        async with Cluster.adopt(workspace, asynchronous=True) as cluster:
            await cluster.scale(3)
            await cluster
            cluster.scale(5)
            await cluster.scale_down(["cpu-0"])
            assert sorted(cluster.workers) == ["cpu-1", "cpu-2", "cpu-3", "cpu-4"]

    workspace = applied()
    asyncio.run(main())


def test_an_entry_of_the_user_s_own_is_started_as_in_spec_cluster(applied: Open) -> None:
    async def main() -> None:
        async with Cluster.adopt(workspace, asynchronous=True) as cluster:
            cluster.worker_spec["mine"] = {"cls": Worker, "options": {"nthreads": 1}}
            cluster.scale(1)
            await cluster
            assert sorted(cluster.workers) == ["cpu-0", "mine"]
            del cluster.worker_spec["mine"]
            await cluster
            assert sorted(cluster.workers) == ["cpu-0"]

    workspace = applied()
    asyncio.run(main())


def test_a_cluster_that_was_destroyed_meanwhile(
    cloud: Cloud, applied: Open, workspace: Open
) -> None:
    opened = applied()

    async def main() -> None:
        async with Cluster.adopt(opened, asynchronous=True) as cluster:
            await asyncio.to_thread(Cluster.adopt(workspace()).destroy)
            cluster.scale(1)
            with pytest.raises(PlanapplyError, match="was ended or replaced meanwhile"):
                await cluster

    asyncio.run(main())
    assert cloud.names() == []


def test_a_spec_that_was_changed_and_not_applied(
    cloud: Cloud, applied: Open, workspace: Open
) -> None:
    applied()
    changed = workspace(SPEC.replace('"zoo"', '"zoo"\nttl = "1 h"'))

    async def main() -> None:
        async with Cluster.adopt(changed, asynchronous=True) as cluster:
            cluster.scale(1)
            with pytest.raises(PlanapplyError, match="run `planapply apply` first"):
                await cluster
            assert [*cluster.failures] == ["cpu"]
            assert not cluster.worker_spec
            await cluster  # it is not tried again

    asyncio.run(main())
    assert cloud.names() == ["scheduler"]


def test_a_cluster_that_would_cost_too_much(cloud: Cloud, applied: Open, workspace: Open) -> None:
    class Dear(Cloud):
        """Every VM costs 1 USD/h."""

        def price(self, size: str | None, zone: str | None, spot: bool) -> Price:
            return Price(1.0)

    applied()
    cloud.__class__ = Dear
    limited = workspace(SPEC.replace('"zoo"', '"zoo"\nmax_cost = 2.5'))

    async def main() -> None:
        async with Cluster.adopt(limited, asynchronous=True) as cluster:
            cluster.scale(2)
            with pytest.raises(
                PlanapplyError, match=r"would cost 3\.00 USD/h, and max_cost is 2\.50"
            ):
                await cluster
            cluster.scale(1)
            await cluster

    asyncio.run(main())
    assert cloud.names() == nodes("cpu-0")


def test_what_a_process_that_died_began_is_finished(
    cloud: Cloud, applied: Open, workspace: Open
) -> None:
    with Cluster.adopt(applied()) as cluster:
        cluster.scale(3)
    state = workspace().read()
    record = state.nodes["cpu-2"]

    def die(state: State) -> None:
        state.nodes["cpu-1"].status = "terminating"
        # Its VM was launched, and the answer never written.
        del state.nodes["cpu-2"]
        state.intents[record.batch] = Intent(
            names=["cpu-2"], config=record.config, choice=Choice(), asked_at=0.0
        )

    change_state(workspace(), die)
    with Cluster.adopt(workspace()) as cluster:
        cluster.scale(2)
        settle(cluster)
        assert sorted(cluster.workers) == ["cpu-0", "cpu-2"]
    assert cloud.names() == nodes("cpu-0", "cpu-2")
    assert no_changes(workspace())
