"""planapply's plugin on real schedulers: the times after which they close, and changes of them."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import dask
import pytest
from distributed import Client, Scheduler, Variable, Worker, fire_and_forget

from planapply.bootstrap import scheduler_plugin
from planapply.dask.safe_rpc import UndecodableAnswer
from planapply.dask.scheduler import Scheduler as SchedulerClient
from planapply.dask.scheduler import build_security, connect, lifetimes
from planapply.fleet.tls import make_tls
from planapply.model.lifetimes import Lifetimes
from planapply.model.state import TLS, Endpoint

LIMIT = 120  # seconds; only a broken test needs them
ENDS = "planapply: this cluster ends: "


@pytest.fixture(autouse=True)
def short_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_plugin, "INTERVAL", 20)


@asynccontextmanager
async def run_scheduler(tls: TLS | None = None) -> AsyncIterator[Scheduler]:
    settings = {"host": "127.0.0.1", "port": 0, "dashboard_address": ":0"}
    protocol = "tcp" if tls is None else "tls"
    async with Scheduler(**settings, protocol=protocol, security=build_security(tls)) as scheduler:
        scheduler_plugin.dask_setup(scheduler)
        yield scheduler


def plugin(scheduler: Scheduler) -> scheduler_plugin.Lifetimes:
    found = scheduler.plugins["planapply"]
    assert isinstance(found, scheduler_plugin.Lifetimes)
    return found


def endpoint(scheduler: Scheduler) -> Endpoint:
    return Endpoint(private=scheduler.address)


def test_lifetimes_change_and_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lifetimes.json"
    path.write_text('{"no_client_timeout": 90}')
    monkeypatch.setenv("PLANAPPLY_LIFETIMES", str(path))
    tls = make_tls("zoo")

    async def run() -> None:
        async with (
            run_scheduler(tls) as scheduler,
            connect(endpoint(scheduler), tls) as remote,
        ):
            before = await remote.lifetimes()
            assert before is not None
            assert (before.idle_timeout, before.no_client_timeout) == (None, 90)
            assert before.no_client_for is not None
            after = await remote.set_lifetimes(
                Lifetimes(idle_timeout=1800.0, no_client_timeout=None)
            )
            assert after is not None
            assert (after.idle_timeout, after.no_client_timeout) == (1800, None)
            assert scheduler.idle_timeout == 1800
            scheduler.idle_since -= 3600
            shorter = await remote.set_lifetimes(
                Lifetimes(idle_timeout=60.0, no_client_timeout=90.0)
            )
            assert shorter is not None  # both count from now on
            assert {*shorter.time_left} == {"idle_timeout", "no_client_timeout"}
            assert (
                50
                < shorter.time_left["idle_timeout"]
                <= 60
                < shorter.time_left["no_client_timeout"]
            )
            await remote.set_lifetimes(Lifetimes(idle_timeout=1800.0))
        async with run_scheduler() as scheduler:  # after a reboot of the VM
            assert scheduler.idle_timeout == 1800
            assert await asyncio.to_thread(lifetimes, endpoint(scheduler), None) is not None

    asyncio.run(run())


def test_removed_idle_timeout_is_that_of_dasks_configuration() -> None:
    async def run() -> None:
        with dask.config.set({"distributed.scheduler.idle-timeout": "2 hours"}):
            async with run_scheduler() as scheduler, connect(endpoint(scheduler), None) as remote:
                await remote.set_lifetimes(Lifetimes(idle_timeout=60.0))
                assert scheduler.idle_timeout == 60
                await remote.set_lifetimes(Lifetimes())
                assert scheduler.idle_timeout == 7200

    asyncio.run(run())


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), True, "1 h", [1], 1e300])
def test_plugin_refuses_what_is_no_duration(value: Any) -> None:
    async def run() -> None:
        async with run_scheduler() as scheduler, connect(endpoint(scheduler), None) as remote:
            times = {"idle_timeout": value, "no_client_timeout": None}
            with pytest.raises(UndecodableAnswer):  # an exception, which is not unpickled
                await remote._connection.call("planapply_set_lifetimes", **times)
            assert scheduler.idle_timeout is None

    asyncio.run(run())


def test_scheduler_without_the_plugin() -> None:
    async def run() -> None:
        async with (
            Scheduler(host="127.0.0.1", port=0, dashboard_address=":0") as scheduler,
            connect(endpoint(scheduler), None) as remote,
        ):
            assert await remote.lifetimes() is None
            assert await remote.set_lifetimes(Lifetimes(idle_timeout=60.0)) is None

    asyncio.run(run())


@pytest.mark.parametrize(
    "answer",
    [
        [],
        "soon",
        {"idle_timeout": 1.0},
        *(
            {
                "idle_timeout": None,
                "no_client_timeout": None,
                "no_client_for": None,
                "idle_for": number,
            }
            for number in (float("nan"), -1.0, float("inf"), 1e300, True, "1")
        ),
    ],
)
def test_odd_answers_are_errors(answer: Any) -> None:
    class Connection:
        address = "tcp://127.0.0.1:1"

        async def call(self, operation: str, **arguments: Any) -> Any:
            return answer

    with pytest.raises(UndecodableAnswer):
        asyncio.run(SchedulerClient(Connection()).lifetimes())  # type: ignore[arg-type]


def test_scheduler_without_clients_closes(capsys: pytest.CaptureFixture[str]) -> None:
    async def run() -> None:
        async with run_scheduler() as scheduler:
            async with Client(scheduler.address, asynchronous=True):  # type: ignore[no-untyped-call]
                plugin(scheduler).change(None, 0.01)
                plugin(scheduler).last_client -= 60
                plugin(scheduler).check()
                assert scheduler.status.name == "running"
            await asyncio.wait_for(scheduler.finished(), LIMIT)

    asyncio.run(run())
    assert capsys.readouterr().out == f"{ENDS}no_client_timeout\n"


def wait_for_file(folder: Path) -> None:
    (folder / "begun").touch()
    end = monotonic() + LIMIT
    while not (folder / "end").exists() and monotonic() < end:
        sleep(0.01)


def test_scheduler_with_tasks_does_not_close(tmp_path: Path) -> None:
    async def run() -> None:
        async with run_scheduler() as scheduler:
            client = await Client(scheduler.address, asynchronous=True)  # type: ignore[no-untyped-call]
            fire_and_forget(client.submit(wait_for_file, tmp_path))
            while not (scheduler.queued or scheduler.unrunnable):  # no worker yet
                await asyncio.sleep(0.01)
            await client.close()
            plugin(scheduler).change(None, 0.01)
            plugin(scheduler).last_client -= 60
            plugin(scheduler).check()
            assert scheduler.status.name == "running"
            async with Worker(scheduler.address, nthreads=1):
                while not (tmp_path / "begun").exists():
                    await asyncio.sleep(0.01)
                plugin(scheduler).check()
                assert scheduler.status.name == "running"
                (tmp_path / "end").touch()
                await asyncio.wait_for(scheduler.finished(), LIMIT)
            assert plugin(scheduler).reason == "no_client_timeout"

    asyncio.run(run())


def test_only_real_clients_count() -> None:
    async def run() -> None:
        async with run_scheduler() as scheduler:
            found = plugin(scheduler)

            def has_client() -> bool:
                return found.read()["no_client_for"] is None

            assert not has_client()
            # As the client of a worker, whose tasks submit tasks.
            async with Client(  # type: ignore[no-untyped-call]
                scheduler.address, asynchronous=True, name="worker"
            ) as client:
                future = client.submit(int)
                fire_and_forget(future)
                await Variable("x", client=client).set(future)  # type: ignore[no-untyped-call]
                while "variable-x" not in scheduler.clients:
                    await asyncio.sleep(0.01)
                assert not has_client()
                async with Client(  # type: ignore[no-untyped-call]
                    scheduler.address, asynchronous=True, name="worker-eu", set_as_default=False
                ):
                    assert has_client()
                    found.last_client -= 60
                while has_client():
                    await asyncio.sleep(0.01)
                assert monotonic() - found.last_client < 60  # since it has left

    asyncio.run(run())


def test_idle_scheduler_says_why_it_closes(capsys: pytest.CaptureFixture[str]) -> None:
    async def run() -> None:
        async with run_scheduler() as scheduler:
            plugin(scheduler).change(0.01, None)
            await asyncio.wait_for(scheduler.finished(), LIMIT)

    asyncio.run(run())
    assert capsys.readouterr().out == f"{ENDS}idle_timeout\n"


def test_scheduler_that_a_client_shuts_down_says_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def run() -> None:
        async with run_scheduler() as scheduler:
            plugin(scheduler).change(60, 60)
            async with Client(scheduler.address, asynchronous=True) as client:  # type: ignore[no-untyped-call]
                await client.shutdown()

    asyncio.run(run())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("options", "configured", "expected"),
    [
        ({}, {}, ({}, ["PLUGIN"], [])),
        ({"preload": "a"}, {}, ({"preload": ["a", "PLUGIN"]}, ["PLUGIN"], [])),
        ({}, {"preload": "a"}, ({}, ["a", "PLUGIN"], [])),
        (
            {"preload": ["a"], "preload_argv": [["-x"]]},
            {"preload": ["b", "c"], "preload-argv": [["-y"], []]},
            (
                {"preload": ["a", "PLUGIN"], "preload_argv": [["-x"], []]},
                ["b", "c", "PLUGIN"],
                [["-y"], [], []],
            ),
        ),
        (
            {"preload_argv": [["-x"]]},
            {"preload": ["a"]},
            ({"preload_argv": [["-x"], []]}, ["a", "PLUGIN"], []),
        ),
        (
            {"preload": ["a"], "preload_argv": ["-x"]},
            {},
            ({"preload": ["a", "PLUGIN"], "preload_argv": ["-x"]}, ["PLUGIN"], []),
        ),
    ],
)
def test_preloads_of_the_user_stay(
    options: dict[str, Any],
    configured: dict[str, Any],
    expected: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[Any] = []

    def dask_spec(arguments: list[str]) -> None:
        assert arguments[0] == "--spec"
        found.append(json.loads(arguments[1])["opts"])
        found.extend(map(dask.config.get, scheduler_plugin.PRELOAD_KEYS))

    monkeypatch.setattr("distributed.cli.dask_spec.main", dask_spec)
    monkeypatch.setenv("PLANAPPLY_PLUGIN", "PLUGIN")
    monkeypatch.setattr(sys, "argv", ["-c", "--spec", json.dumps({"cls": "x", "opts": options})])
    scheduler = {f"distributed.scheduler.{key}": value for key, value in configured.items()}
    with dask.config.set({**scheduler, "distributed.scheduler.x": 1}):
        before = dask.config.get("distributed.scheduler")
        with dask.config.set({"distributed.scheduler": dict(before)}):
            scheduler_plugin.main()
    assert tuple(found) == expected
