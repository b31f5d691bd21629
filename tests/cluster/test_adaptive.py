"""Adaptivity: bounds in Dask workers, changes in nodes, one process at a time."""

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from cluster.conftest import SPEC, Open
from cluster.helpers import EVENTS, apply_pending, wait_for, wait_until
from cluster.inprocess import Cloud, CloudWorkspace
from distributed import Adaptive, Client
from inline_snapshot import snapshot

from planapply import Cluster, GroupAdaptive
from planapply.model.diagnostics import PlanapplyError
from planapply.ops.plan import plan

PAIRS = SPEC.replace("max = 8", "max = 8\nprocesses = 2")
MIXED = PAIRS + '[workers.io]\ncount = 2\nclass = "distributed.Worker"\n'


@asynccontextmanager
async def adaptive(
    workspace: CloudWorkspace, nodes: int, workers: int, **options: Any
) -> AsyncIterator[tuple[Cluster, Client, GroupAdaptive]]:
    """Open a cluster that adapts only when a test calls it; `workers` is the number of all groups."""
    async with (
        Cluster.adopt(workspace, asynchronous=True) as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        cluster.scale(nodes, group="cpu")
        await cluster
        while len(cluster.scheduler_info["workers"]) != workers:
            await asyncio.sleep(0.01)
        made = cluster.adapt(interval=0, **options)
        assert isinstance(made, GroupAdaptive)
        yield cluster, client, made


@contextmanager
def busy() -> Iterator[str]:
    EVENTS["busy"] = threading.Event()
    try:
        yield "busy"
    finally:
        EVENTS["busy"].set()


def test_load_adds_nodes_and_idleness_removes_them(
    cloud: Cloud, applied: Open, workspace: Open
) -> None:
    with Cluster.adopt(applied()) as cluster, Client(cluster) as client:
        cluster.adapt(minimum=1, maximum=3, interval="20ms", target_duration="1ms")
        wait_until(lambda: [*cluster.workers] == ["cpu-0"])
        with busy() as event:
            futures = client.map(wait_for, [event] * 10, pure=False)
            wait_until(lambda: len(cluster.workers) > 1)
        assert client.gather(futures) == [True] * 10
        del futures
        wait_until(lambda: len(cluster.workers) == 1)
    assert len(cloud.names()) == 2
    assert not plan(workspace()).plan.changes


def test_bounds_are_converted_from_workers_to_nodes(applied: Open) -> None:
    def bounds(**options: Any) -> tuple[float, float]:
        made = cluster.adapt(interval=0, **options)
        return made.minimum, made.maximum

    spec = PAIRS.replace("nthreads = 1", 'nthreads = 2, memory_limit = "1 GiB"')
    with Cluster.adopt(applied(spec)) as cluster:
        assert bounds() == (0, 8)
        assert bounds(minimum=3, maximum=7) == (2, 3)
        assert bounds(maximum=math.inf) == (0, 8)
        assert bounds(minimum_cores=5, maximum_cores=11) == (2, 2)
        assert bounds(minimum_memory="3 GiB", maximum_memory="9 GiB") == (2, 4)
        assert bounds(minimum=3, minimum_cores=9, maximum=14, maximum_memory="9 GiB") == (3, 4)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"minimum": 1, "maximum": 1},
            ValueError,
            "cannot adapt 'cpu': no whole number of nodes (2 Dask workers each) lies between 1 and 1 workers",
        ),
        (
            {"minimum": 5, "maximum": 3},
            ValueError,
            "cannot adapt 'cpu': minimum (5 Dask workers) is greater than maximum (3)",
        ),
        (
            {"group": "x"},
            ValueError,
            "cannot adapt 'x': there is no such group. Groups: cpu, io.",
        ),
        (
            {"group": "io"},
            ValueError,
            "cannot adapt 'io': the group has a `count`. Change the `count` in the spec, then run "
            "`planapply apply`.",
        ),
        (
            {"group": ["cpu"]},
            TypeError,
            "cannot adapt: group must be the name of a group, not ['cpu']",
        ),
        (
            {"minimum": "x"},
            TypeError,
            "cannot adapt 'cpu': minimum must be a number of Dask workers, not 'x'",
        ),
        (
            {"maximum": True},
            TypeError,
            "cannot adapt 'cpu': maximum must be a number of Dask workers, not True",
        ),
        (
            {"maximum": math.nan},
            ValueError,
            "cannot adapt 'cpu': maximum must be a number of Dask workers, not nan",
        ),
        (
            {"minimum": -1},
            ValueError,
            "cannot adapt 'cpu': minimum must not be negative, but is -1",
        ),
        (
            {"maximum_cores": "a"},
            TypeError,
            "cannot adapt 'cpu': maximum_cores must be a number of cores, not 'a'",
        ),
        (
            {"minimum_memory": "much"},
            ValueError,
            "cannot adapt 'cpu': minimum_memory must be bytes, or a text such as \"100 GiB\", not 'much'",
        ),
    ],
)
def test_wrong_bounds_are_errors(
    options: dict[str, Any], error: type[Exception], message: str, applied: Open
) -> None:
    with Cluster.adopt(applied(MIXED)) as cluster:
        with pytest.raises(error) as raised:
            cluster.adapt(**options)
        assert str(raised.value) == message
        assert cluster._adaptive is None


def test_bounds_outside_the_spec_are_clamped(applied: Open) -> None:
    def bounds(**options: Any) -> tuple[float, float, str]:
        with pytest.warns(UserWarning, match="the spec sets min = 1, max = 8") as warned:
            made = cluster.adapt(interval=0, **options)
        [warning] = warned
        assert warning.filename == __file__
        return made.minimum, made.maximum, str(warning.message)

    with Cluster.adopt(applied(PAIRS.replace("min = 0", "min = 1"))) as cluster:
        assert bounds(minimum=0, maximum=18) == (
            1,
            8,
            "adapting 'cpu' between 1 and 8 nodes, not between 0 and 9: the spec sets min = 1, max = 8",
        )
        assert bounds(minimum=20)[:2] == (8, 8)
        assert bounds(minimum=0, maximum=0)[:2] == (1, 1)
        assert bounds(maximum_cores=100)[:2] == (1, 8)


def test_one_group_at_a_time(applied: Open) -> None:
    two = SPEC + '[workers.gpu]\nmin = 0\nmax = 2\nclass = "distributed.Worker"\n'
    with Cluster.adopt(applied(two)) as cluster:
        made = cluster.adapt(interval="1s", group="cpu")
        with pytest.raises(ValueError, match="cannot adapt 'gpu'") as raised:
            cluster.adapt(group="gpu")
        assert str(raised.value) == (
            "cannot adapt 'gpu': this Cluster object adapts 'cpu' already, and adapts one group at a time. "
            "Call stop() on the object that adapt() returned, then adapt again."
        )
        assert cluster._adaptive is made
        assert made.state != "stopped"
        made.stop()
        other = cluster.adapt(interval="1s", group="gpu")
        assert isinstance(other, GroupAdaptive)
        assert other.group == "gpu"


def test_only_the_adaptive_group_counts(cloud: Cloud, applied: Open) -> None:
    async def main() -> None:
        async with adaptive(workspace, 3, 8) as (cluster, client, made):
            assert made.plan == made.requested == made.observed == {"cpu-0", "cpu-1", "cpu-2"}
            assert await made.target() == 0  # all are idle
            with busy() as event:
                # A node with one busy worker is required.
                futures = [
                    client.submit(wait_for, event, workers=name, pure=False)
                    for name in ("cpu-0-1", "cpu-2-0")
                ]
                while sum(bool(w.processing) for w in cloud.scheduler.workers.values()) < 2:
                    await asyncio.sleep(0.01)
                # Idle nodes of the other group must not lead to the termination of busy nodes of this one.
                assert await made.target() == 2
                assert (await made.workers_to_close(2)) == ["cpu-1"]
                for _ in range(made.wait_count):
                    await made.adapt()
                await cluster
                assert sorted(cluster.workers) == ["cpu-0", "cpu-2", "io-0", "io-1"]
            assert await client.gather(futures) == [True, True]
            del futures  # a node that holds results may be required
            while cluster.nodes_of("cpu"):
                await made.adapt()
            await cluster
            assert sorted(cluster.workers) == ["io-0", "io-1"]

    workspace = applied(MIXED)
    asyncio.run(main())


def test_more_work_adds_nodes(cloud: Cloud, applied: Open) -> None:
    async def main() -> None:
        options = {"target_duration": "1ms", "maximum": 6}
        async with adaptive(workspace, 1, 4, **options) as (cluster, client, made):
            await client.gather(client.map(lambda x: x, range(4), pure=False))
            with busy() as event:
                futures = client.map(wait_for, [event] * 50, pure=False)
                while not cloud.scheduler.total_occupancy:
                    await asyncio.sleep(0.01)
                # The workers of the other group are subtracted from the target in Dask workers.
                total = await Adaptive.target(made)
                assert total >= 4
                assert await made.target() == math.ceil((total - 2) / 2)
                assert await made.safe_target() == 3
                await made.adapt()
                await cluster
                assert cluster.nodes_of("cpu") == {"cpu-0", "cpu-1", "cpu-2"}
            await client.gather(futures)

    workspace = applied(MIXED)
    asyncio.run(main())


def test_nodes_that_have_not_joined_are_removed_first(cloud: Cloud, applied: Open) -> None:
    async def main() -> None:
        async with adaptive(workspace, 3, 3, minimum=2) as (cluster, _, made):
            await asyncio.to_thread(cloud.stop_servers, "cpu-0")
            while "cpu-0" in made.observed:
                await asyncio.sleep(0.01)
            for _ in range(made.wait_count):
                await made.adapt()
            await cluster
            assert sorted(cluster.workers) == ["cpu-1", "cpu-2"]

    workspace = applied()
    asyncio.run(main())


def test_failed_launch_is_not_retried_at_once(cloud: Cloud, applied: Open) -> None:
    async def main() -> None:
        cloud.refused_names = {f"cpu-{i}" for i in range(1, 9)}
        async with adaptive(workspace, 1, 1) as (cluster, _, made):
            await made.scale_up(2)
            with pytest.raises(PlanapplyError, match="no capacity"):
                await cluster
            launches = cloud.calls["launch"]
            for _ in range(3):
                await made.scale_up(2)
                await cluster
            assert cloud.calls["launch"] == launches
            cluster.scale(2)  # a manual request has no backoff
            with pytest.raises(PlanapplyError, match="no capacity"):
                await cluster
            assert cloud.calls["launch"] == launches + 1

    workspace = applied()
    asyncio.run(main())


def test_only_one_cluster_object_can_adapt(applied: Open, workspace: Open) -> None:
    with Cluster.adopt(applied()) as first, Cluster.adopt(workspace()) as second:
        adapting = first.adapt(interval="1s")
        with pytest.raises(PlanapplyError) as raised:
            second.adapt()
        assert str(raised.value) == snapshot("""\
another Cluster object of this process has been adapting this cluster
Close that Cluster object, or call adapt() on it.\
""")
        assert raised.value.__suppress_context__
        second.scale(1)  # scale() is always allowed
        apply_pending(second)
        assert first.adapt(maximum=2) is not adapting  # replaces its own
        first._adaptive.stop()
        second.adapt(interval="1s")
        with pytest.raises(PlanapplyError, match="has been adapting this cluster"):
            first.adapt()
    with Cluster.adopt(workspace()) as third:
        third.adapt()  # closing released the lock


def test_failed_adapt_takes_no_adaptive_lock(applied: Open, workspace: Open) -> None:
    with Cluster.adopt(applied()) as first, Cluster.adopt(workspace()) as second:
        with pytest.raises(TypeError, match=r"derive it from planapply\.GroupAdaptive"):
            first.adapt(Adaptive=Adaptive)
        with pytest.raises(KeyError, match="soon"):
            first.adapt(interval="soon")
        second.adapt()


def test_custom_adaptive_class(applied: Open) -> None:
    class Stubborn(GroupAdaptive):
        """An Adaptive with a constant target."""

        async def target(self) -> int:
            return 2

    with Cluster.adopt(applied()) as cluster:
        assert isinstance(cluster.adapt(Adaptive=Stubborn, interval="20ms"), Stubborn)
        wait_until(lambda: sorted(cluster.workers) == ["cpu-0", "cpu-1"])
