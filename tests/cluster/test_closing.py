"""The log message after closing a cluster: it is still running, and its cost."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cluster.conftest import SPEC, Open
from cluster.inprocess import Cloud, CloudWorkspace, plugin

from planapply import Cluster
from planapply.model.state import State
from planapply.ops.apply import apply
from planapply.provider import Plugin, Price
from planapply.specfile import load
from planapply.store import open_store

ONE_NODE = SPEC.replace("min = 0", "min = 1")
ENDING = ONE_NODE.replace('name = "zoo"', 'name = "zoo"\nttl = "1 h"')


class PaidCloud(Cloud):
    """A cloud whose VMs cost money."""

    def price(self, size: str | None, zone: str | None, spot: bool) -> Price:
        return Price(0.25)


class PaidWorkspace(CloudWorkspace):
    def plugin(self, state: State | None) -> Plugin:
        return replace(plugin(self.cloud), costs_money=True)


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    cloud = PaidCloud()
    yield cloud
    cloud.close()


Paid = Callable[[str], PaidWorkspace]


@pytest.fixture
def paid(cloud: Cloud, tmp_path: Path) -> Paid:
    """Apply a spec in a cloud that costs money."""

    def open(text: str) -> PaidWorkspace:
        path = tmp_path / "zoo.toml"
        path.write_text(text)
        spec, _ = load(path, lambda name: plugin(cloud))
        store = open_store(spec.state_location(path))
        workspace = PaidWorkspace(store, spec, cloud=cloud)
        assert not apply(workspace, lambda plan: True).failures
        return workspace

    return open


def closing_logs(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    found = [(r.levelno, r.getMessage()) for r in caplog.records if r.name == "planapply"]
    return [(level, text) for level, text in found if "still running" in text]


def test_cluster_that_costs_money(paid: Paid, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "planapply")
    workspace = paid(ONE_NODE)
    location = workspace.store.location
    text = (
        "cluster 'zoo' is still running, cost: 0.50 USD/h. To destroy it, run "
        f"`planapply destroy --state {location}`."
    )
    with Cluster.adopt(workspace) as cluster:
        pass
    cluster.close()  # says it once
    assert closing_logs(caplog) == [(logging.WARNING, text)]

    async def leave() -> None:
        async with Cluster.adopt(workspace, asynchronous=True):
            pass

    asyncio.run(leave())
    assert closing_logs(caplog) == [(logging.WARNING, text)] * 2


def test_cluster_that_terminates_itself(paid: Paid, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "planapply")
    with Cluster.adopt(paid(ENDING)):
        pass
    assert [level for level, _ in closing_logs(caplog)] == [logging.INFO]


@pytest.mark.parametrize("destroys_on_close", [True, False])
def test_destroyed_cluster(
    paid: Paid, caplog: pytest.LogCaptureFixture, destroys_on_close: bool
) -> None:
    cluster = Cluster.adopt(paid(ONE_NODE))
    cluster.destroys_on_close = destroys_on_close
    cluster.close() if destroys_on_close else cluster.destroy()
    assert closing_logs(caplog) == []


def test_cluster_that_costs_nothing(applied: Open, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "planapply")
    with Cluster.adopt(applied()):
        pass
    assert closing_logs(caplog) == []
