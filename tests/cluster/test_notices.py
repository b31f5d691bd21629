"""Notices about spot VMs: nodes report them to a real scheduler, whose answers are data only."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from distributed import Client, LocalCluster

from planapply.bootstrap import NOTICE_TOPIC
from planapply.bootstrap.steps import SPOT_SERVICE
from planapply.dask.notices import read_notices
from planapply.dask.scheduler import connect
from planapply.model.notice import Notice, NoticeKind
from planapply.model.state import Endpoint

NOW = time.time()
VMS = {"cpu-0": "i-0", "cpu-1": "i-1"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(
        n_workers=0, processes=False, dashboard_address=None, protocol="tcp"
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    """A client of the scheduler, whose event log is empty."""
    cluster.scheduler._broker._topics.clear()
    with Client(cluster) as client:
        yield client


def read(client: Client, vms: dict[str, str] = VMS) -> dict[str, Notice]:
    async def run() -> dict[str, Notice]:
        async with connect(Endpoint(private=client.scheduler.address), None) as scheduler:
            return await read_notices(scheduler, vms, NOW)

    return asyncio.run(run())


def message(**more: Any) -> dict[str, Any]:
    return {"node": "cpu-0", "vm": "i-0", "kind": "rebalance", "time": NOW} | more


def test_a_scheduler_without_notices_has_none(client: Client) -> None:
    assert read(client) == {}


def test_most_urgent_notice_of_each_node_is_returned(client: Client) -> None:
    for more in (
        {},
        {"kind": "interruption", "time": NOW + 1},
        {"time": NOW + 2},
        {"node": "cpu-1", "vm": "i-1"},
    ):
        client.log_event(NOTICE_TOPIC, message(**more))
    assert read(client) == {
        "cpu-0": Notice(node="cpu-0", vm="i-0", kind=NoticeKind.INTERRUPTION, time=NOW + 1),
        "cpu-1": Notice(node="cpu-1", vm="i-1", kind=NoticeKind.REBALANCE, time=NOW),
    }
    # A node that was launched again has another VM.
    assert read(client, {"cpu-0": "i-9", "cpu-1": "i-1"}).keys() == {"cpu-1"}
    assert read(client, {}) == {}


@pytest.mark.parametrize(
    "event",
    [
        "text",
        ["cpu-0", "i-0", "rebalance", NOW],
        {"node": "cpu-0"},
        message(node=["cpu-0"]),
        message(node={"cpu-0": 1}),
        message(node="scheduler"),
        message(vm=None),
        message(kind="apocalypse"),
        message(kind=True),
        message(time="now"),
        message(time=float("nan")),
        message(time=NOW + 1e6),
        message(time=-1),
        message(time=True),
        None,
    ],
)
def test_whatever_else_a_task_logs_is_ignored(client: Client, event: Any) -> None:
    client.log_event(NOTICE_TOPIC, event)
    client.log_event(NOTICE_TOPIC, message(node="cpu-1", vm="i-1"))
    assert read(client).keys() == {"cpu-1"}


def test_node_and_reader_use_the_same_topic() -> None:
    assert f'client.log_event("{NOTICE_TOPIC}", notice)' in SPOT_SERVICE
