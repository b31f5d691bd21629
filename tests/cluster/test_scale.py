"""Scaling an opened cluster, under the state's lock, after changes of other processes."""

import asyncio
import math
import re
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from cluster.conftest import SPEC, Open
from cluster.helpers import apply_pending, change_state, count_runs, read_runs, wait_until
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
COUNTS = SPEC.replace("min = 0\nmax = 8", "count = 1")
FIXED = SPEC + '[workers.io]\ncount = 1\nclass = "distributed.Worker"\n'


def nodes(*ranges: str) -> list[str]:
    return sorted([*from_ranges(ranges), "scheduler"])


def no_changes(workspace: CloudWorkspace) -> bool:
    return not plan(workspace).plan.changes


def test_scale_from_2_to_4_and_back_repeats_no_task(
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
        apply_pending(cluster)
        assert client.gather(futures) == [*range(20), *range(20)]
    assert read_runs(tmp_path / "log") == sorted([*range(20), *range(20)])
    assert cloud.names() == nodes("cpu-[0-1]")
    assert no_changes(workspace())


def test_index_is_never_reused(cloud: Cloud, applied: Open, workspace: Open) -> None:
    with Cluster.adopt(applied()) as cluster:
        for number in (3, 1, 2, 0, 1):
            cluster.scale(number)
            apply_pending(cluster)
        assert [*cluster.workers] == ["cpu-4"]
    with Cluster.adopt(workspace()) as cluster:
        cluster.scale(2)
    assert cloud.launched_names == ["scheduler", *(f"cpu-{i}" for i in range(6))]
    assert no_changes(workspace())


def test_new_worker_gets_the_next_name(applied: Open) -> None:
    with Cluster.adopt(applied(PAIRS)) as cluster:
        cluster.scale(2)
        apply_pending(cluster)
        cluster.scale(1)
        apply_pending(cluster)
        [(name, entry)] = cluster.new_worker_spec().items()
        assert name == "cpu-2"
        assert entry["group"] == ["-0", "-1"]
        assert cluster._supports_scaling


def test_repeated_scale_terminates_nothing(cloud: Cloud, applied: Open) -> None:
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


def test_scale_during_a_change_is_applied_next(
    cloud: Cloud, applied: Open, workspace: Open
) -> None:
    async def main() -> None:
        async with Cluster.adopt(opened, asynchronous=True) as cluster:
            cluster.scale(2)
            await cluster
            cloud.terminate_gate = threading.Event()
            cluster.scale(1)
            while not cloud.calls["terminate"]:
                await asyncio.sleep(0.01)
            cluster.scale(3)
            assert len(cluster.worker_spec) == 3
            cloud.terminate_gate.set()
            await cluster
            assert sorted(cluster.workers) == ["cpu-0", "cpu-2", "cpu-3"]

    opened = applied()
    asyncio.run(main())
    state = workspace().read()
    assert state.next_index == {"cpu": 4}
    assert no_changes(workspace())


def test_pending_scale_is_applied_before_leaving(cloud: Cloud, applied: Open) -> None:
    async def main() -> None:
        async with Cluster.adopt(workspace, asynchronous=True) as cluster:
            cluster.scale(2)

    workspace = applied()
    asyncio.run(main())
    assert cloud.names() == nodes("cpu-[0-1]")
    with Cluster.adopt(workspace) as cluster:
        cluster.scale(1)
    assert cloud.names() == nodes("cpu-0")


def test_changes_of_another_process_are_adopted(
    cloud: Cloud, applied: Open, workspace: Open
) -> None:
    with Cluster.adopt(applied()) as first, Cluster.adopt(workspace()) as second:
        first.scale(3)
        apply_pending(first)
        second.scale(4)
        apply_pending(second)
        assert [*second.workers] == ["cpu-0", "cpu-1", "cpu-2", "cpu-3"]
        first.scale(2)
        apply_pending(first)
        assert sorted(first.workers) == ["cpu-0", "cpu-1"]
        second.scale(3)
        apply_pending(second)
        assert sorted(second.workers) == ["cpu-0", "cpu-1", "cpu-4"]
    assert cloud.names() == nodes("cpu-[0-1]", "cpu-4")
    assert no_changes(workspace())


def test_two_clusters_scale_to_the_same_size_at_once(
    cloud: Cloud, applied: Open, workspace: Open
) -> None:
    with Cluster.adopt(applied()) as first, Cluster.adopt(workspace()) as second:
        first.scale(4)
        second.scale(4)
        apply_pending(first)
        apply_pending(second)
        assert sorted(first.workers) == sorted(second.workers) == from_ranges(["cpu-[0-3]"])
    assert cloud.names() == nodes("cpu-[0-3]")


def test_nodes_of_another_process_are_seen(applied: Open, workspace: Open) -> None:
    first = Cluster.adopt(applied(), scheduler_sync_interval=0.02)
    with first, Cluster.adopt(workspace()) as second:
        second.scale(2)
        wait_until(lambda: sorted(first.workers) == ["cpu-0", "cpu-1"])
        assert first.plan == first.requested == {"cpu-0", "cpu-1"}
        second.scale(1)
        wait_until(lambda: [*first.workers] == ["cpu-0"])


def test_manually_started_worker_is_not_a_node(cloud: Cloud, applied: Open) -> None:
    with Cluster.adopt(applied(), scheduler_sync_interval=0.02) as cluster:

        async def start() -> Worker:
            return await Worker(cloud.scheduler.address, name="mine", nthreads=1)

        mine = cloud.run(start())
        wait_until(lambda: cluster.observed == {"mine"})
        cluster.scale(1)
        apply_pending(cluster)
        assert [*cluster.workers] == ["cpu-0"]
        cloud.run(mine.close())


@pytest.mark.parametrize(
    ("spec", "scale", "expected"),
    [
        (SPEC, {"n": -1}, "cannot scale 'cpu' to -1 nodes: the spec sets min = 0, max = 8"),
        (SPEC, {"n": 9}, "cannot scale 'cpu' to 9 nodes: the spec sets min = 0, max = 8"),
        (
            TWO,
            {"n": 0, "group": "gpu"},
            "cannot scale 'gpu' to 0 nodes: the spec sets min = 1, max = 2",
        ),
        (
            TWO,
            {"n": 1},
            "cannot scale: several groups have `min` and `max` (cpu, gpu). Select one with group=…",
        ),
        (
            COUNTS,
            {"n": 1},
            "cannot scale: no group has `min` and `max`. In the spec, give 'cpu' a `min` and `max` "
            "in place of `count`.",
        ),
        (
            FIXED,
            {"n": 1, "group": "io"},
            "cannot scale 'io': the group has a `count`. Change the `count` in the spec, then run "
            "`planapply apply`.",
        ),
        (SPEC, {"n": 1, "group": "x"}, "cannot scale 'x': there is no such group. Groups: cpu."),
        (SPEC, {"cores": 9}, "cannot scale 'cpu' to 9 nodes: the spec sets min = 0, max = 8"),
    ],
)
def test_scale_beyond_the_spec_is_refused(
    spec: str, scale: dict[str, Any], expected: str, applied: Open
) -> None:
    with Cluster.adopt(applied(spec)) as cluster:
        before = [*cluster.worker_spec]
        with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
            cluster.scale(**scale)
        assert [*cluster.worker_spec] == before


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n": 1.5}, ValueError, "cannot scale 'cpu' to 1.5 nodes: not a whole number"),
        ({"n": math.inf}, ValueError, "cannot scale 'cpu': n must be a number of nodes, not inf"),
        ({"n": "x"}, TypeError, "cannot scale 'cpu': n must be a number of nodes, not 'x'"),
        ({"n": None}, TypeError, "cannot scale 'cpu': n must be a number of nodes, not None"),
        ({"n": True}, TypeError, "cannot scale 'cpu': n must be a number of nodes, not True"),
        ({"cores": "a"}, TypeError, "cannot scale 'cpu': cores must be a number of cores, not 'a'"),
        ({"cores": -1}, ValueError, "cannot scale 'cpu': cores must not be negative, but is -1"),
        ({"memory": -5}, ValueError, "cannot scale 'cpu': memory must not be negative, but is -5"),
        (
            {"memory": "-5 GiB"},
            ValueError,
            "cannot scale 'cpu': memory must be bytes, or a text such as \"100 GiB\", not '-5 GiB'",
        ),
        (
            {"memory": [1]},
            TypeError,
            "cannot scale 'cpu': memory must be bytes, or a text such as \"100 GiB\", not [1]",
        ),
        (
            {"n": 1, "group": ["cpu"]},
            TypeError,
            "cannot scale: group must be the name of a group, not ['cpu']",
        ),
    ],
)
def test_wrong_arguments_are_errors_at_the_call(
    arguments: dict[str, Any],
    error: type[Exception],
    message: str,
    applied: Open,
    caplog: pytest.LogCaptureFixture,
) -> None:
    spec = SPEC.replace("nthreads = 1", 'nthreads = 1, memory_limit = "1 GiB"')
    with Cluster.adopt(applied(spec)) as cluster:
        with pytest.raises(error) as raised:
            cluster.scale(**arguments)
        assert str(raised.value) == message
        assert not cluster.worker_spec
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("n", [2, 2.0, Fraction(2)])
def test_whole_numbers_of_any_type_scale(n: Any, cloud: Cloud, applied: Open) -> None:
    with Cluster.adopt(applied()) as cluster:
        cluster.scale(n)
        apply_pending(cluster)
    assert cloud.names() == nodes("cpu-[0-1]")


def test_scale_one_group_of_two(cloud: Cloud, applied: Open) -> None:
    with Cluster.adopt(applied(TWO)) as cluster:
        cluster.scale(2, group="gpu")
        apply_pending(cluster)
        cluster.scale(1, group="cpu")
        apply_pending(cluster)
        cluster.scale(1, group="gpu")
    assert cloud.names() == nodes("cpu-0", "gpu-0")


def test_scale_by_cores_and_memory_of_the_spec(cloud: Cloud, applied: Open) -> None:
    spec = PAIRS.replace("nthreads = 1", 'nthreads = 2, memory_limit = "1 GiB"')
    with Cluster.adopt(applied(spec)) as cluster:
        cluster.scale(cores=9)
        assert len(cluster.worker_spec) == 3
        cluster.scale(memory="3 GiB")
        assert len(cluster.worker_spec) == 2


def test_scale_by_cores_and_memory_of_the_first_node(cloud: Cloud, applied: Open) -> None:
    spec = SPEC.replace("{ nthreads = 1 }", "{ memory_limit = 0.01 }")
    with Cluster.adopt(applied(spec)) as cluster:
        for amount in ({"cores": 2}, {"memory": "2 GiB"}):
            with pytest.raises(ValueError, match="is unknown until one has joined"):
                cluster.scale(**amount)
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
            assert [error.summary for error in raised.value.diagnostics] == [
                "cpu-2: no capacity is left",
                "cpu-4: no capacity is left",
            ]
            assert sorted(cluster.failures) == ["cpu-2", "cpu-4"]
            assert sorted(cluster.workers) == ["cpu-0", "cpu-1", "cpu-3", "cpu-5"]
            # Their indexes are never used again.
            assert cluster.worker_spec.keys() == cluster.workers.keys()
            cluster.scale(6)
            await cluster
            assert not cluster.failures
            assert sorted(cluster.workers) == ["cpu-0", "cpu-1", "cpu-3", "cpu-5", "cpu-6", "cpu-7"]

    opened = applied()
    cloud.refused_names = {"cpu-2", "cpu-4"}
    asyncio.run(main())
    assert no_changes(workspace())


def test_unawaited_failure_is_logged(
    cloud: Cloud, applied: Open, caplog: pytest.LogCaptureFixture
) -> None:
    cloud.refused_names = {"cpu-0"}
    with Cluster.adopt(applied()) as cluster:
        cluster.scale(2)
        wait_until(
            lambda: cluster.failures and "no capacity" in caplog.text
        )  # recorded before it is logged
        assert "cpu-0: no capacity is left\nWait." in caplog.text
        assert [*cluster.workers] == ["cpu-1"]


def test_failed_termination_is_retried(cloud: Cloud, applied: Open, workspace: Open) -> None:
    opened = applied()

    async def main() -> None:
        async with Cluster.adopt(opened, asynchronous=True) as cluster:
            cluster.scale(2)
            await cluster
            cloud.refuse_terminate = True
            cluster.scale(1)
            with pytest.raises(PlanapplyError, match="cpu-1: terminating VMs is not permitted"):
                await cluster
            assert cluster.plan == {"cpu-0"}
            assert cluster.workers["cpu-1"].status == Status.failed
            assert cloud.names() == nodes("cpu-[0-1]")
            cloud.refuse_terminate = False
            await cluster
            assert [*cluster.workers] == ["cpu-0"]

    asyncio.run(main())
    assert cloud.names() == nodes("cpu-0")
    assert no_changes(workspace())


def test_close_does_not_hang_on_a_failed_termination(
    cloud: Cloud, applied: Open, caplog: pytest.LogCaptureFixture
) -> None:
    with Cluster.adopt(applied()) as cluster:
        cluster.scale(1)
        apply_pending(cluster)
        cloud.refuse_terminate = True
        cluster.scale(0)
    assert cluster.status == Status.closed
    assert "closed with pending changes" in caplog.text
    cloud.refuse_terminate = False


def test_scale_waits_for_a_locked_state(applied: Open, workspace: Open) -> None:
    opened = applied()

    async def main() -> None:
        async with Cluster.adopt(opened, lock_timeout=0.0, asynchronous=True) as cluster:
            with workspace().store.lock("apply"):
                cluster.scale(1)
                with pytest.raises(StateLocked):
                    await cluster
            await cluster  # the request is still pending
            assert [*cluster.workers] == ["cpu-0"]

    asyncio.run(main())


def test_close_that_timed_out_can_be_retried(cloud: Cloud, applied: Open, workspace: Open) -> None:
    cluster = Cluster.adopt(applied())
    with workspace().store.lock("apply"):
        cluster.scale(1)
        with pytest.raises(TimeoutError):
            cluster.close(timeout=0.1)
        wait_until(lambda: cluster.status == Status.failed)
    cluster.close()
    assert cluster.status == Status.closed


def test_lost_scheduler_gets_no_more_workers(cloud: Cloud, applied: Open) -> None:
    async def main() -> None:
        async with Cluster.adopt(opened, asynchronous=True) as cluster:
            await asyncio.to_thread(cloud.remove_vm, "scheduler")
            cluster.scale(1)
            with pytest.raises(PlanapplyError, match="its scheduler was destroyed or replaced"):
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
        # The name of a Dask worker, an address, the name of a node, and an unknown name.
        cluster.sync(cluster.scale_down, ["cpu-0-1", address, "cpu-3", "who"])
        assert [*cluster.workers] == ["cpu-1"]
        assert cluster.plan == {"cpu-1-0", "cpu-1-1"}
    assert cloud.names() == nodes("cpu-1")


def test_synchronous_cluster_in_a_notebook(cloud: Cloud, applied: Open) -> None:
    async def cell() -> None:
        cluster.scale(2)
        assert await cluster is cluster
        assert cloud.names() == nodes("cpu-[0-1]")
        await cluster.scale_down(["cpu-1"])
        with pytest.raises(ValueError, match="cannot scale down the scheduler"):
            await cluster.scale_down(["scheduler"])
        cluster.scale(3)
        await cluster

    with Cluster.adopt(applied()) as cluster:
        asyncio.run(cell())
        assert cloud.names() == nodes("cpu-0", "cpu-[2-3]")
        cluster.scale_down(["cpu-3"])  # as `scale`, it needs no `await` in a script
        assert cloud.names() == nodes("cpu-0", "cpu-2")


def test_scale_down_keeps_to_the_spec(cloud: Cloud, applied: Open) -> None:
    with Cluster.adopt(applied(FIXED.replace("min = 0", "min = 1"))) as cluster:
        with pytest.raises(
            ValueError, match="cannot scale 'cpu' to 0 nodes: the spec sets min = 1"
        ):
            cluster.sync(cluster.scale_down, ["cpu-0"])
        with pytest.raises(ValueError, match="cannot scale 'io': the group has a `count`"):
            cluster.sync(cluster.scale_down, ["io-0"])
        del cluster.worker_spec["io-0"]  # by hand
        cluster.scale(2)
        apply_pending(cluster)
        assert "io-0" in cluster.workers
        assert "io-0" in cluster.worker_spec
    assert cloud.names() == nodes("cpu-[0-1]", "io-0")


def test_scale_down_of_what_is_no_node(
    cloud: Cloud, applied: Open, caplog: pytest.LogCaptureFixture
) -> None:
    with Cluster.adopt(applied()) as cluster:
        cluster.scale(1)
        apply_pending(cluster)
        scheduler = (
            "cannot scale down the scheduler: the cluster cannot run without it. To remove the "
            "whole cluster, call destroy()."
        )
        for workers, message in (
            (
                "cpu-0",
                "cannot scale down 'cpu-0': pass a list of names, as in scale_down(['cpu-0'])",
            ),
            (["scheduler"], scheduler),
            (["cpu-0", cluster.scheduler_address], scheduler),
        ):
            with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
                cluster.sync(cluster.scale_down, workers)
        # Adaptivity passes the names and addresses of workers that have just left.
        cluster.sync(cluster.scale_down, ["zzz", "tcp://127.0.0.1:1"])
        assert [r.getMessage() for r in caplog.records if "scale_down" in r.getMessage()] == [
            "scale_down ignored zzz, tcp://127.0.0.1:1: there is no such node"
        ]
    assert cloud.names() == nodes("cpu-0")


def test_scale_down_with_pending_nodes(cloud: Cloud, applied: Open) -> None:
    async def main() -> None:
        async with Cluster.adopt(workspace, asynchronous=True) as cluster:
            await cluster.scale(3)
            await cluster
            cluster.scale(5)
            await cluster.scale_down(["cpu-0"])
            assert sorted(cluster.workers) == ["cpu-1", "cpu-2", "cpu-3", "cpu-4"]

    workspace = applied()
    asyncio.run(main())


def test_scale_down_after_another_process_launched(
    cloud: Cloud, applied: Open, workspace: Open
) -> None:
    async def main() -> None:
        async with (
            Cluster.adopt(opened, asynchronous=True) as cluster,
            Cluster.adopt(workspace(), asynchronous=True) as other,
        ):
            await other.scale(3)
            await other
            cluster.scale(0)  # before this process has seen those nodes
            cluster._merge_state(workspace().read(), ())
            await cluster.scale_down(["cpu-1"])
            assert not cluster.workers

    opened = applied()
    asyncio.run(main())
    assert cloud.names() == ["scheduler"]


def test_own_worker_spec_entry_is_started(applied: Open) -> None:
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


def test_scale_after_the_cluster_was_destroyed(
    cloud: Cloud, applied: Open, workspace: Open
) -> None:
    opened = applied()

    async def main() -> None:
        async with Cluster.adopt(opened, asynchronous=True) as cluster:
            await asyncio.to_thread(Cluster.adopt(workspace()).destroy)
            cluster.scale(1)
            with pytest.raises(PlanapplyError, match="its scheduler was destroyed or replaced"):
                await cluster

    asyncio.run(main())
    assert cloud.names() == []


def test_scale_with_an_unapplied_spec(cloud: Cloud, applied: Open, workspace: Open) -> None:
    applied()
    changed = workspace(SPEC.replace('"zoo"', '"zoo"\nttl = "1 h"'))

    async def main() -> None:
        async with Cluster.adopt(changed, asynchronous=True) as cluster:
            cluster.scale(1)
            with pytest.raises(PlanapplyError, match="Run `planapply apply` first"):
                await cluster
            assert [*cluster.failures] == ["cpu"]
            assert not cluster.worker_spec
            await cluster  # it is not tried again

    asyncio.run(main())
    assert cloud.names() == ["scheduler"]


def test_scale_above_max_cost_is_refused(cloud: Cloud, applied: Open, workspace: Open) -> None:
    class Expensive(Cloud):
        """A cloud whose VMs cost 1 USD/h each."""

        def price(self, size: str | None, zone: str | None, spot: bool) -> Price:
            return Price(1.0)

    applied()
    cloud.__class__ = Expensive
    limited = workspace(SPEC.replace('"zoo"', '"zoo"\nmax_cost = 2.5'))

    async def main() -> None:
        async with Cluster.adopt(limited, asynchronous=True) as cluster:
            cluster.scale(2)
            with pytest.raises(
                PlanapplyError, match=r"would cost 3\.00 USD/h, more than `max_cost` \(2\.50\)"
            ):
                await cluster
            cluster.scale(1)
            await cluster

    asyncio.run(main())
    assert cloud.names() == nodes("cpu-0")


def test_intents_of_a_dead_process_are_resolved(
    cloud: Cloud, applied: Open, workspace: Open
) -> None:
    with Cluster.adopt(applied()) as cluster:
        cluster.scale(3)
    state = workspace().read()
    record = state.nodes["cpu-2"]

    def die(state: State) -> None:
        state.nodes["cpu-1"].status = "terminating"
        # Its VM was launched, but the response was never recorded.
        del state.nodes["cpu-2"]
        state.intents[record.batch] = Intent(
            names=["cpu-2"], config=record.config, choice=Choice(), requested_at=0.0
        )

    change_state(workspace(), die)
    with Cluster.adopt(workspace()) as cluster:
        cluster.scale(2)
        apply_pending(cluster)
        assert sorted(cluster.workers) == ["cpu-0", "cpu-2"]
    assert cloud.names() == nodes("cpu-0", "cpu-2")
    assert no_changes(workspace())


@pytest.mark.parametrize("limit", ["0", '"0"', '"0 GiB"', "0.0"])
def test_memory_without_a_limit_is_an_error(applied: Open, limit: str) -> None:
    text = SPEC.replace("nthreads = 1", f"nthreads = 1, memory_limit = {limit}")
    with Cluster.adopt(applied(text)) as cluster:
        with pytest.raises(ValueError, match="its workers have no memory limit"):
            cluster.scale(memory="1 GiB")
        with pytest.raises(ValueError, match="its workers have no memory limit"):
            cluster.adapt(maximum_memory="1 GiB")


def test_no_threads_are_those_of_the_machine(applied: Open) -> None:
    with (
        Cluster.adopt(applied(SPEC.replace("nthreads = 1", "nthreads = 0"))) as cluster,
        pytest.raises(ValueError, match="the `nthreads` of a node is unknown until one has joined"),
    ):
        cluster.scale(cores=1)
