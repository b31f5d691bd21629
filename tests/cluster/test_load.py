"""The load of real schedulers, and the watcher's memory of it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cluster.conftest import SPEC, Open
from cluster.helpers import EVENTS, wait_for, wait_until
from cluster.inprocess import Cloud, CloudWorkspace, spec_of
from cluster.test_adaptive import busy
from cluster.test_safe_rpc import HANDSHAKE, frame, serve
from distributed import Client
from inline_snapshot import snapshot

from planapply import Cluster
from planapply.dask.load import observe_load
from planapply.dask.safe_rpc import UndecodableAnswer
from planapply.dask.scheduler import connect
from planapply.diff.load import Load
from planapply.model.diagnostics import PlanapplyError
from planapply.model.state import Endpoint
from planapply.ops.apply import apply
from planapply.ops.load import LoadChange, LoadFollower, load_warnings
from planapply.ops.status import status
from planapply.store import LockInfo, open_store

ADAPT = SPEC.replace(
    "max = 8", 'max = 8\nprocesses = 2\nadapt = { target = "1 ms", idle = "20 s" }'
)
MIXED = ADAPT + '[workers.io]\ncount = 2\nclass = "distributed.Worker"\n'

ADAPTIVE = "{}.adaptive"


class Clock:
    """The clock of a watcher, which a test advances."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@contextmanager
def following(workspace: CloudWorkspace, clock: Clock, events: list[str]) -> Iterator[LoadFollower]:
    workspace.clock = clock  # type: ignore[assignment]
    follower = LoadFollower(workspace, lambda event: events.append(event.message))
    try:
        yield follower
    finally:
        follower.close()


def required(follower: LoadFollower, workspace: CloudWorkspace) -> LoadChange | None:
    return follower.required_change(spec_of(workspace), workspace.read())


def test_load_of_a_scheduler(cloud: Cloud, applied: Open) -> None:
    applied(MIXED)
    endpoint = Endpoint(private=cloud.scheduler.address)
    assert observe_load(endpoint, None, 60.0) == Load(
        0, frozenset({"io-0", "io-1"}), frozenset({"io-0", "io-1"})
    )
    with Client(cloud.scheduler.address) as client, busy() as event:
        futures = client.map(wait_for, [event] * 50, pure=False)
        wait_until(lambda: cloud.scheduler.total_occupancy)
        found = observe_load(endpoint, None, 0.001)
        assert found
        assert found.target > 20
        assert found.closable == frozenset()
        slow = observe_load(endpoint, None, 1e6)
        assert slow
        assert slow.target <= 2
        EVENTS[event].set()
        client.gather(futures)
    cloud.stop_servers("scheduler")
    assert observe_load(endpoint, None, 60.0) is None


@pytest.mark.parametrize("answer", ["many", -1, 1.5, None, True])
def test_answer_that_is_no_load(answer: Any) -> None:
    async def main() -> None:
        async with (
            serve(HANDSHAKE, frame(answer)) as address,
            connect(Endpoint(private=address), None) as scheduler,
        ):
            with pytest.raises(UndecodableAnswer):
                await scheduler.adaptive_target(60.0)
        async with (
            serve(HANDSHAKE, frame(answer)) as address,
            connect(Endpoint(private=address), None) as scheduler,
        ):
            with pytest.raises(UndecodableAnswer):
                await scheduler.closable_workers()

    asyncio.run(main())


def test_watcher_follows_the_load(
    cloud: Cloud, applied: Open, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = applied(MIXED)
    events: list[str] = []
    with following(workspace, clock, events) as follower:
        assert required(follower, workspace) is None
        with Client(cloud.scheduler.address) as client, busy() as event:
            futures = client.map(wait_for, [event] * 50, pure=False)
            wait_until(lambda: cloud.scheduler.total_occupancy)
            # All workers of the other group are busy, and are not counted.
            assert required(follower, workspace) == LoadChange("cpu", 8)
            EVENTS[event].set()
            client.gather(futures)
        with Cluster.adopt(applied(MIXED)) as cluster:
            cluster.scale(2, group="cpu")
            cluster.sync(cluster._correct_state)
        wait_until(lambda: len(cloud.scheduler.workers) == 6)
        assert required(follower, workspace) is None
        clock.now = 19.0
        assert required(follower, workspace) is None
        clock.now = 20.0
        assert required(follower, workspace) == LoadChange("cpu", 0, ("cpu-1", "cpu-0"))
        # A scheduler that does not answer says nothing about its nodes, not even later.
        with monkeypatch.context() as patch:
            patch.setattr("planapply.dask.load.ask", lambda *_: None)
            clock.now = 30.0
            assert required(follower, workspace) is None
        clock.now = 49.0
        assert required(follower, workspace) is None
        # Another spec has no group to adapt: another process may adapt the cluster.
        assert follower.required_change(spec_of(applied()), workspace.read()) is None
        assert open_store(ADAPTIVE.format(workspace.store.location)).lock_info() is None
    assert events == []


def test_only_one_process_adapts(
    applied: Open, workspace: Open, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = applied(ADAPT)
    events: list[str] = []
    with Cluster.adopt(workspace(ADAPT)) as cluster, following(opened, clock, events) as follower:
        cluster.adapt(interval=0)
        for _ in range(3):
            assert required(follower, opened) is None
        assert events == snapshot(
            [
                "does not follow the load: another Cluster object of this process has been adapting this cluster"
            ]
        )
        cluster._adaptive.stop()
        assert required(follower, opened) is None
        with pytest.raises(PlanapplyError, match="has been adapting this cluster"):
            cluster.adapt(interval=0)
        # `unlock` lets another process adapt.
        store = open_store(ADAPTIVE.format(opened.store.location))
        Path(f"{store.location}.lock").unlink()
        cluster.adapt(interval=0)
        busy_load = Load(9, frozenset(), frozenset())
        monkeypatch.setattr("planapply.dask.load.ask", lambda *_: busy_load)
        assert required(follower, opened) is None
    assert len(events) == 1


def test_lock_of_a_dead_watcher_is_taken_over(applied: Open, clock: Clock) -> None:
    workspace = applied(ADAPT)
    location = ADAPTIVE.format(workspace.store.location)
    dead = LockInfo.of_this_process("12ab", "watch (load)").model_copy(
        update={"pid": 2**22 + 1, "who": "me@here", "created": "2026-03-02T09:30:00+00:00"}
    )
    Path(f"{location}.lock").write_bytes(dead.encode())
    assert [warning.summary for warning in load_warnings(workspace, workspace.spec)] == snapshot(
        ["group 'cpu' has `adapt`, but no watcher follows the load"]
    )
    events: list[str] = []
    with following(workspace, clock, events) as follower:
        required(follower, workspace)
        assert events == snapshot(
            [
                "took over the adaptive lock of a dead process: me@here (process 4194305) has held lock 12ab since 2026-03-02 09:30:00 UTC, for watch (load)."
            ]
        )
        assert [*load_warnings(workspace, workspace.spec)] == []


def test_status_warns_if_nothing_follows_the_load(applied: Open) -> None:
    assert [problem.summary for problem in status(applied(ADAPT)).problems] == snapshot(
        ["group 'cpu' has `adapt`, but no watcher follows the load"]
    )
    assert status(applied(SPEC)).problems == ()


def test_apply_warns_if_nothing_follows_the_load(workspace: Open) -> None:
    report = apply(workspace(ADAPT), lambda plan: True)
    assert [warning.summary for warning in report.warnings] == snapshot(
        ["group 'cpu' has `adapt`, but no watcher follows the load"]
    )
    assert apply(workspace(SPEC), lambda plan: True).warnings == ()
