"""Clusters created through the constructor: like those of SpecCluster, without its defects."""

import asyncio
import inspect
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from cluster.helpers import apply_pending, count_runs, read_runs, wait_until
from distributed import Client, Scheduler, SpecCluster, Worker
from distributed.core import Status
from distributed.deploy.spec import ProcessInterface

from planapply import Cluster

SCHEDULER = {"cls": Scheduler, "options": {"dashboard_address": ":0", "host": "127.0.0.1"}}
WORKER = {"cls": Worker, "options": {"nthreads": 1}}


class Handle(ProcessInterface):
    """A node that starts and closes, fails to start, or fails to close."""

    def __init__(self, scheduler: str, name: Any, fate: str = "", log: Any = None) -> None:
        super().__init__(scheduler=scheduler, name=name)
        self.name, self.fate, self.log = name, fate, log

    async def start(self) -> None:
        if self.fate == "fails":
            raise OSError(f"{self.name} has no room")
        await super().start()

    async def close(self) -> None:
        if self.log is not None:
            self.log.append(self.name)
        if self.fate == "stuck":
            raise OSError(f"{self.name} cannot be closed")
        await super().close()


def handle(fate: str = "", log: Any = None) -> dict[str, Any]:
    return {"cls": Handle, "options": {"fate": fate, "log": log}}


def test_constructor_has_the_signature_of_spec_cluster() -> None:
    ours, theirs = inspect.signature(Cluster), inspect.signature(SpecCluster)
    assert issubclass(Cluster, SpecCluster)
    assert [(p.name, p.kind, p.default) for p in ours.parameters.values()] == [
        (p.name, p.kind, p.default) for p in theirs.parameters.values()
    ]


def test_names_workers_from_0_and_closes_them() -> None:
    with Cluster(scheduler=SCHEDULER, worker=WORKER, workers={"own": WORKER}) as cluster:
        cluster.scale(3)
        cluster.wait_for_workers(3, timeout=120)
        assert [*cluster.worker_spec] == ["own", 0, 1]
        with cluster.get_client() as client:
            assert client.submit(sum, [1, 2]).result() == 3
        scheduler = cluster.scheduler
    assert scheduler.status == Status.closed
    assert cluster.status == Status.closed


def test_scaling_down_loses_no_result(tmp_path: Path) -> None:
    with (
        Cluster(scheduler=SCHEDULER, worker=WORKER) as cluster,
        Client(cluster) as client,
    ):
        cluster.scale(4)
        cluster.wait_for_workers(4, timeout=120)
        futures = count_runs(client, tmp_path / "log", 40)
        client.gather(futures)
        cluster.scale(1)
        wait_until(lambda: len(cluster.workers) == 1)
        assert client.gather(futures) == [*range(40)]
    assert read_runs(tmp_path / "log") == [*range(40)]


def test_failed_node_does_not_affect_others() -> None:
    async def main() -> None:
        async with Cluster(scheduler=SCHEDULER, asynchronous=True) as cluster:
            fates = {f"n{i}": "fails" if i in (3, 7) else "" for i in range(10)}
            cluster.worker_spec.update({name: handle(fate) for name, fate in fates.items()})
            with pytest.raises(OSError, match="has no room") as raised:
                await cluster
            assert sorted(cluster.workers) == [n for n, fate in fates.items() if not fate]
            assert all(w.status == Status.running for w in cluster.workers.values())
            assert sorted(cluster.failures) == ["n3", "n7"]
            # The second failure is named as well.
            texts = [str(raised.value), *raised.value.__notes__]
            assert all(any(name in text for text in texts) for name in ("n3", "n7"))
            # They are still specified: each further change tries them again, and reports them again.
            with pytest.raises(OSError, match="has no room"):
                await cluster
            for name in ("n3", "n7"):
                cluster.worker_spec[name] = handle()
            await cluster
            assert len(cluster.workers) == 10

    asyncio.run(main())


def test_unimportable_class_is_one_of_several_failures() -> None:
    async def main() -> None:
        async with Cluster(scheduler=SCHEDULER, asynchronous=True) as cluster:
            cluster.worker_spec["good"] = handle()
            cluster.worker_spec["bad"] = {"cls": "nowhere.Worker", "options": {}}
            with pytest.raises(ModuleNotFoundError, match="nowhere"):
                await cluster
            assert [*cluster.workers] == ["good"]

    asyncio.run(main())


def test_failed_first_start_closes_everything() -> None:
    log: list[str] = []
    with pytest.raises(OSError, match="has no room"):
        Cluster(workers={"good": handle(log=log), "bad": handle("fails")}, scheduler=SCHEDULER)
    assert log == ["good"]


def test_failed_constructor_leaves_no_thread() -> None:
    before = {*threading.enumerate()}
    with pytest.raises(RuntimeError, match="failed to start"):
        Cluster(scheduler={"cls": Scheduler, "options": {"port": "none"}})
    assert not [t for t in {*threading.enumerate()} - before if t.name == "IO loop"]


def test_failed_close_of_a_worker_is_raised_and_closing_continues() -> None:
    async def main() -> None:
        workers = {"stuck": handle("stuck"), "good": handle()}
        cluster = await Cluster(workers=workers, scheduler=SCHEDULER, asynchronous=True)
        stuck = cluster.workers["stuck"]
        for _ in range(2):  # a second close does not wait for the first forever
            with pytest.raises(OSError, match="stuck cannot be closed"):
                await cluster.close()
            assert cluster.status == Status.failed
            assert [*cluster.workers] == ["stuck"]
            assert cluster.scheduler.status == Status.closed
        stuck.fate = ""
        await cluster.close()
        assert cluster.status == Status.closed

    asyncio.run(main())


def test_failed_close_of_the_scheduler_is_raised() -> None:
    class Stuck(ProcessInterface):
        """A handle of a scheduler, which fails to close."""

        async def start(self) -> None:
            self.real = await Scheduler(**SCHEDULER["options"])
            self.address = self.real.address
            await super().start()

        async def close(self) -> None:
            await self.real.close()
            raise OSError("the scheduler cannot be closed")

    async def main() -> None:
        cluster = await Cluster(scheduler={"cls": Stuck}, asynchronous=True)
        with pytest.raises(OSError, match="cannot be closed"):
            await cluster.close()
        assert cluster.status == Status.failed
        cluster.status = Status.closed  # so that no later close is tried

    asyncio.run(main())


def test_unawaited_failure_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Older versions of distributed do not propagate the logs of tornado.
    for name in ("tornado", "tornado.application"):
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    with Cluster(scheduler=SCHEDULER, worker=handle("fails")) as cluster:
        cluster.scale(1)
        wait_until(lambda: "has no room" in caplog.text)
        cluster.scale(0)


def test_unknown_worker_does_not_stop_updates() -> None:
    with Cluster(scheduler=SCHEDULER, worker=WORKER) as cluster:
        cluster.scale(1)
        cluster.wait_for_workers(1, timeout=120)
        cluster.scheduler_info["workers"].clear()
        cluster.scale(0)
        wait_until(lambda: not cluster.workers)
        cluster.scale(2)
        wait_until(lambda: len(cluster.scheduler_info["workers"]) == 2)


def test_two_clusters_follow_one_scheduler() -> None:
    with Cluster(scheduler=SCHEDULER, worker=WORKER, scheduler_sync_interval=0.02) as first:
        # The second cluster has the same scheduler, and no nodes of its own.
        address = first.scheduler_address

        class Existing(ProcessInterface):
            """A handle of a scheduler that another cluster has started."""

            async def start(self) -> None:
                self.address = address
                await super().start()

        second = Cluster(
            scheduler={"cls": Existing}, shutdown_scheduler=False, scheduler_sync_interval=0.02
        )
        with second:
            first.scale(2)
            wait_until(lambda: len(first.scheduler_info["workers"]) == 2)
            wait_until(lambda: len(second.scheduler_info["workers"]) == 2)
            first.scale(1)
            wait_until(lambda: len(first.scheduler_info["workers"]) == 1)
            wait_until(lambda: len(second.scheduler_info["workers"]) == 1)


def test_worker_that_joins_during_a_refresh_is_kept() -> None:
    with Cluster(scheduler=SCHEDULER, worker=WORKER, scheduler_sync_interval=0.02) as cluster:
        comm, polls, go_on = cluster.scheduler_comm, [], threading.Event()

        class Slow:
            """An rpc whose responses arrive late."""

            async def identity(self) -> Any:
                identity = await comm.identity()
                polls.append(identity)
                while not go_on.is_set():
                    await asyncio.sleep(0.01)
                return identity

            def __getattr__(self, name: str) -> Any:
                return getattr(comm, name)

        cluster.scheduler_comm = Slow()
        wait_until(lambda: polls)
        cluster.scale(1)
        apply_pending(cluster)
        wait_until(lambda: len(cluster.scheduler_info["workers"]) == 1)
        before = {**cluster.workers}
        go_on.set()
        wait_until(lambda: len(polls) > 1 and not cluster._timers)
        apply_pending(cluster)
        assert cluster.workers == before


def test_destroy_closes_the_cluster() -> None:
    cluster = Cluster(scheduler=SCHEDULER, worker=WORKER)
    cluster.destroy()
    assert cluster.status == Status.closed
    assert cluster.scheduler.status == Status.closed


def test_scale_down_by_the_workers_of_a_group() -> None:
    async def main() -> None:
        pair = {**handle(), "group": ["-a", "-b"]}
        workers = {"x": pair, "y": pair}
        async with Cluster(workers, SCHEDULER, asynchronous=True) as cluster:
            await cluster.scale_down(["x-a"])
            assert [*cluster.workers] == ["y"]
            assert cluster.plan == {"y-a", "y-b"}

    asyncio.run(main())


def test_group_needs_a_spec() -> None:
    with Cluster(scheduler=SCHEDULER, worker=WORKER) as cluster:
        with pytest.raises(ValueError, match="has no groups"):
            cluster.scale(1, group="cpu")
        with pytest.raises(ValueError, match="has no groups"):
            cluster.adapt(group="cpu")


def test_adapts_as_spec_cluster_does() -> None:
    with Cluster(scheduler=SCHEDULER, worker=WORKER) as cluster, Client(cluster) as client:
        adaptive = cluster.adapt(maximum=2, interval="20ms")
        assert (adaptive.minimum, adaptive.maximum) == (0, 2)
        future = client.submit(sum, [1, 2])
        assert future.result(timeout=120) == 3
        assert len(cluster.workers) in (1, 2)  # a worker that holds a result is kept
        del future
        wait_until(lambda: not cluster.workers)
