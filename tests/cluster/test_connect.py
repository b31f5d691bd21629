"""Clients, from a spec or from a state."""

import asyncio
import socket
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cluster.conftest import Open
from cluster.helpers import change_state, wait_for_other_tasks
from cluster.inprocess import Cloud
from distributed import Client, Scheduler, versions
from distributed.versions import VersionMismatchWarning

import planapply
from planapply.dask import scheduler as scheduler_client
from planapply.model.diagnostics import PlanapplyError
from planapply.model.state import Endpoint, State


@pytest.mark.parametrize("name", ["zoo.toml", "zoo.state.json"])
def test_connect_by_spec_or_state(name: str, cloud: Cloud, applied: Open, tmp_path: Path) -> None:
    applied()
    with planapply.connect(tmp_path / name, name="mine") as client:
        assert isinstance(client, Client)
        assert "mine" in client.id
        assert client.scheduler is not None
        assert client.scheduler.address == cloud.scheduler.address
    assert cloud.names() == ["scheduler"]


def test_connect_uses_the_spec_of_the_current_folder(
    cloud: Cloud, applied: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied()
    (tmp_path / "zoo.toml").rename(tmp_path / "planapply.toml")
    (tmp_path / "zoo.state.json").rename(tmp_path / "planapply.state.json")
    monkeypatch.chdir(tmp_path)
    with planapply.connect() as client:
        assert client.run_on_scheduler(lambda: 1) == 1


def test_connect_in_an_event_loop(cloud: Cloud, applied: Open, tmp_path: Path) -> None:
    async def main() -> None:
        client = await planapply.connect(tmp_path / "zoo.toml", asynchronous=True)
        assert await client.run_on_scheduler(lambda: 1) == 1
        await client.close()
        async with planapply.connect(tmp_path / "zoo.toml", asynchronous=True) as client:
            assert await client.run_on_scheduler(lambda: 1) == 1
        assert client.status == "closed"
        await wait_for_other_tasks()

    applied()
    asyncio.run(main())


def test_connect_from_a_foreign_event_loop(applied: Open, tmp_path: Path) -> None:
    async def main() -> None:  # like a notebook
        with planapply.connect(tmp_path / "zoo.toml") as client:
            assert client.run_on_scheduler(lambda: 1) == 1

    applied()
    asyncio.run(main())


def with_public_address(public: str) -> Callable[[State], None]:
    def change(state: State) -> None:
        assert state.endpoint is not None
        state.endpoint = Endpoint(private=state.endpoint.private, public=public)

    return change


def test_connect_uses_the_reachable_address(applied: Open, workspace: Open, tmp_path: Path) -> None:
    private = applied().read().endpoint
    change_state(workspace(), with_public_address("tcp://127.0.0.1:1"))
    with planapply.connect(tmp_path / "zoo.toml") as client:
        assert private is not None
        assert client.scheduler is not None
        assert client.scheduler.address == private.private


def test_connect_waits_for_a_starting_scheduler(
    cloud: Cloud, applied: Open, workspace: Open, tmp_path: Path
) -> None:
    applied()
    address = cloud.scheduler.address
    cloud.stop_servers("scheduler")

    async def start() -> None:
        port = int(address.rpartition(":")[2])
        scheduler = await Scheduler(host="127.0.0.1", port=port, dashboard_address=":0")
        cloud.servers[cloud.vm("scheduler").id] = [scheduler]

    timer = threading.Timer(0.3, lambda: cloud.run(start()))
    timer.start()
    with planapply.connect(tmp_path / "zoo.toml") as client:
        assert client.run_on_scheduler(lambda: 1) == 1
    timer.join()


def test_connect_before_any_apply_is_an_error(workspace: Open, tmp_path: Path) -> None:
    workspace()
    with pytest.raises(PlanapplyError, match=r"there is no state at .*zoo\.state\.json"):
        planapply.connect(tmp_path / "zoo.toml")
    with pytest.raises(PlanapplyError, match=r"there is no spec or state at .*none\.toml"):
        planapply.connect(tmp_path / "none.toml")


def test_connect_without_a_scheduler_is_an_error(
    applied: Open, workspace: Open, tmp_path: Path
) -> None:
    applied()
    change_state(workspace(), lambda state: setattr(state, "endpoint", None))
    with pytest.raises(
        PlanapplyError, match="cannot connect to cluster 'zoo': it has no scheduler"
    ):
        planapply.connect(tmp_path / "zoo.toml")


def test_connect_without_a_response_is_an_error(
    cloud: Cloud, applied: Open, workspace: Open, tmp_path: Path
) -> None:
    address = cloud.scheduler.address if applied() else ""
    change_state(workspace(), with_public_address("tcp://127.0.0.1:1"))
    cloud.stop_servers("scheduler")
    expected = f"cannot reach the scheduler of cluster 'zoo' at tcp://127.0.0.1:1 or {address}: "
    with pytest.raises(PlanapplyError, match=expected):
        planapply.connect(tmp_path / "zoo.toml", timeout=0.2)

    async def main() -> None:
        with pytest.raises(PlanapplyError, match=expected):
            await planapply.connect(tmp_path / "zoo.toml", timeout=0.2, asynchronous=True)
        await wait_for_other_tasks()

    asyncio.run(main())


def test_connect_uses_the_key_of_the_state(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="cannot pass `security`"):
        planapply.connect(tmp_path / "zoo.toml", security=None)


def test_silent_server_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_client, "CONNECT_TIMEOUT", 0.2)
    monkeypatch.setattr(scheduler_client, "BUSY_TIMEOUT", 0.4)

    async def main(where: Endpoint) -> None:
        async with (
            asyncio.timeout(120),
            scheduler_client.connect(where, None, retry_slow=True),
        ):
            pass

    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = Endpoint(private=f"tcp://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(OSError, match="no response"):
            asyncio.run(main(where))


@pytest.mark.parametrize("timeout", ["20s", "1 min", "20000 ms", timedelta(seconds=20), 20])
def test_durations_as_in_dask(applied: Open, workspace: Open, tmp_path: Path, timeout: Any) -> None:
    applied()
    with planapply.connect(tmp_path / "zoo.toml", timeout=timeout) as client:
        assert client.submit(sum, []).status == "pending"
    with planapply.Cluster.adopt(workspace(), timeout, timeout) as cluster:
        assert cluster.name == "zoo"


@pytest.mark.parametrize("timeout", ["soon", "10 parsecs", -1, True])
def test_invalid_duration_names_the_argument(
    applied: Open, workspace: Open, tmp_path: Path, timeout: Any
) -> None:
    applied()
    with pytest.raises(ValueError, match=f"invalid timeout {timeout!r}: "):
        planapply.connect(tmp_path / "zoo.toml", timeout=timeout)
    with pytest.raises(ValueError, match=f"invalid lock_timeout {timeout!r}: "):
        planapply.Cluster.adopt(workspace(), lock_timeout=timeout)


@pytest.mark.parametrize("package", ["python", "dask", "distributed"])
def test_connect_warns_of_other_versions(
    cloud: Cloud, applied: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    applied()
    real = versions.get_versions

    def get_versions(packages: Any = None) -> dict[str, Any]:
        found = real(packages)
        if threading.current_thread() is cloud.thread:  # the scheduler's side
            found["packages"] = {**found["packages"], package: "1.2.3"}
        return found

    monkeypatch.setattr(versions, "get_versions", get_versions)
    with (
        pytest.warns(VersionMismatchWarning, match=package),
        planapply.connect(tmp_path / "zoo.toml"),
    ):
        pass
