"""A scheduler's answer is data: it is never unpickled, and it cannot fill the memory."""

import asyncio
import inspect
import logging
import os
import re
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
from distributed import Client, Scheduler, Worker
from distributed.protocol.serialize import ToPickle

from planapply.dask import safe_rpc
from planapply.dask.notices import read_notices
from planapply.dask.recorded_logs import recorded_logs
from planapply.dask.safe_rpc import MAX_PARTS, UndecodableAnswer, open_connection
from planapply.dask.scheduler import Scheduler as SchedulerClient
from planapply.dask.scheduler import build_security, cluster_usage, connect, probe
from planapply.fleet.tls import make_tls
from planapply.model.lifetimes import Lifetimes
from planapply.model.state import TLS, Endpoint
from planapply.model.status import ClusterUsage

Reply = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def frame(message: Any) -> bytes:
    data = msgpack.packb(message)
    return struct.pack("<QQQ", 16 + len(data), 1, len(data)) + data


HANDSHAKE = frame({"compression": None, "python": (3, 11, 0), "pickle-protocol": 5})


@asynccontextmanager
async def serve(*answers: bytes) -> AsyncIterator[str]:
    """Serve these bytes on loopback to each client, and then nothing more."""

    writers: list[asyncio.StreamWriter] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            writer.write(answer)
        writers.append(writer)
        await reader.read()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.close()
            await asyncio.sleep(0)


@pytest.mark.parametrize("tls", [None, make_tls("safe")], ids=["plain", "tls"])
def test_a_real_scheduler_answers(tls: TLS | None) -> None:
    async def main() -> None:
        security = build_security(tls)
        address = f"{'tls' if tls else 'tcp'}://127.0.0.1:0"
        async with (
            Scheduler(
                host=address, dashboard_address="127.0.0.1:0", security=security
            ) as scheduler,
            Worker(scheduler.address, name="cpu-0", security=security, host="127.0.0.1") as worker,
            open_connection(scheduler.address, tls, 30) as connection,
        ):
            found = await asyncio.to_thread(probe, Endpoint(private=scheduler.address), tls)
            assert found is not None
            usage = found.usage["cpu-0"]
            assert (usage.threads, usage.tasks) == (worker.state.nthreads, 0)
            assert usage.memory_limit == worker.memory_manager.memory_limit
            assert usage.memory is not None
            identity = await connection.call("identity")
            assert [w["name"] for w in identity["workers"].values()] == ["cpu-0"]
            await connection.call("set_metadata", keys=["a"], value={"name": "b"})
            assert await connection.call("get_metadata", keys=["a"]) == {"name": "b"}
            retired = await connection.call(
                "retire_workers", names=["cpu-0"], remove=True, close_workers=True
            )
            assert [worker["name"] for worker in retired.values()] == ["cpu-0"]

    asyncio.run(main())


@pytest.mark.parametrize(
    "worker",
    [
        {},
        {"nthreads": "2", "memory_limit": None, "metrics": None},
        {"nthreads": -1, "memory_limit": 2**64 - 1, "metrics": {"task_counts": [1]}},
        {"metrics": {"memory": [], "task_counts": {"executing": "x", "memory": 9}}},
        {"nthreads": True, "memory_limit": 1.5, "metrics": {"memory": True, "task_counts": True}},
    ],
)
def test_usage_that_a_worker_does_not_say_is_unknown(worker: dict[str, Any]) -> None:
    answer = frame({"services": {}, "workers": {"tcp://127.0.0.1:1": {"name": "cpu-0", **worker}}})

    async def main() -> None:
        async with serve(HANDSHAKE, answer) as address:
            found = await asyncio.to_thread(probe, Endpoint(private=address), None)
        assert found is not None
        usage = found.usage["cpu-0"]
        assert (usage.threads, usage.memory, usage.memory_limit) == (None, None, None)
        assert not usage.tasks

    asyncio.run(main())


@pytest.mark.parametrize("size", [float("inf"), float("nan"), -5, "9" * 4000, True, None, [1]])
def test_size_of_results_that_is_no_size_is_unknown(size: Any) -> None:
    dump = frame({"clients": {}, "task_groups": {}})

    async def main() -> ClusterUsage | None:
        async with serve(HANDSHAKE, dump, frame({"x": 3, "y": size})) as address:
            return await asyncio.to_thread(cluster_usage, Endpoint(private=address), None)

    assert asyncio.run(main()) is None


@pytest.mark.parametrize("tasks", [float("inf"), -5, "9", True, None, [1]])
def test_numbers_of_tasks_that_are_none_are_not_counted(tasks: Any) -> None:
    groups = {"a": {"states": {"queued": 2, "memory": 7}}, "b": {"states": {"waiting": tasks}}}
    clients = {"Client-worker-1": {}, "fire-and-forget": {}, "Client-2": {}}
    dump = frame({"clients": clients, "task_groups": groups})

    async def main() -> ClusterUsage | None:
        async with serve(HANDSHAKE, dump, frame({"x": 3})) as address:
            return await asyncio.to_thread(cluster_usage, Endpoint(private=address), None)

    assert asyncio.run(main()) == ClusterUsage(clients=1, tasks=2, results=3)


@pytest.mark.parametrize("port", [True, 0, -1, 2**16, "8787", 1.5])
def test_port_of_the_dashboard_that_is_no_port_is_unknown(port: Any) -> None:
    async def main() -> None:
        answer = frame({"services": {"dashboard": port}, "workers": {}})
        async with serve(HANDSHAKE, answer) as address:
            found = await asyncio.to_thread(probe, Endpoint(private=address), None)
        assert found is not None
        assert found.dashboard is None

    asyncio.run(main())


def test_logs_of_a_real_cluster() -> None:
    async def main() -> None:
        async with (
            Scheduler(host="tcp://127.0.0.1:0", dashboard_address="127.0.0.1:0") as scheduler,
            Worker(scheduler.address, name="cpu-0-0", host="127.0.0.1"),
            Worker(scheduler.address, name="cpu-0-1", host="127.0.0.1"),
            Worker(scheduler.address, name="cpu-1", host="127.0.0.1"),
        ):
            endpoint = Endpoint(private=scheduler.address)
            nodes = {"scheduler": 1, "cpu-0": 2, "cpu-9": 1}
            for text in ("first", "last\nof two lines"):
                logging.getLogger("distributed.scheduler").info(text)
                logging.getLogger("distributed.worker").info(text)
            found = await asyncio.to_thread(recorded_logs, endpoint, None, nodes, 2)
            assert sorted(found) == ["cpu-0", "scheduler"]
            assert [line.rpartition(" - ")[2] for line in found["cpu-0"]] == (
                ["first", "last", "of two lines"] * 2  # of both workers
            )
            assert found["scheduler"][-1] == "of two lines"

    asyncio.run(main())


@pytest.mark.parametrize("operation", ["identity", "retire_workers", "set_metadata"])
def test_a_pickled_answer_is_not_unpickled(tmp_path: Path, operation: str) -> None:
    async def main() -> None:
        from distributed.protocol.serialize import Serialize, ToPickle

        for wrap in (ToPickle, Serialize, lambda bomb: bomb, lambda bomb: {"workers": [bomb]}):
            answer = wrap(Bomb(tmp_path / "ran"))
            async with Scheduler(
                host="tcp://127.0.0.1:0", dashboard_address="127.0.0.1:0"
            ) as scheduler:
                scheduler.handlers[operation] = lambda answer=answer, **_: answer
                async with open_connection(scheduler.address, None, 30) as connection:
                    with pytest.raises(UndecodableAnswer):
                        await connection.call(operation)

    asyncio.run(main())
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (frame({"__Pickled__": 1}), "would have to be unpickled"),
        (frame([{"a": {"__Serialized__": True, "data": []}}]), "would have to be unpickled"),
        (struct.pack("<QQQ", 16 + 2**30, 1, 2**30), "1,073,741,824 bytes, more than 67,108,864"),
        (struct.pack("<QQQ", 2**64 - 1, 1, 2**64 - 17), "more than 67,108,864"),
        (struct.pack("<QQQ", 24, 2, 4) + b"x" * 20, "would have to be unpickled"),
        (struct.pack("<QQQ", 17, 1, 1) + b"\xc1", "cannot be decoded"),
        (struct.pack("<QQQ", 16 + 5000, 1, 5000) + b"\x91" * 5000, "cannot be decoded"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "would have to be unpickled"),
        (frame({"status": "uncaught-error"}), "failed in 'identity'"),
    ],
)
def test_a_bad_answer_is_an_error(answer: bytes, error: str) -> None:
    async def main() -> None:
        async with (
            serve(HANDSHAKE, answer) as address,
            open_connection(address, None, 30) as connection,
        ):
            with pytest.raises(OSError, match=error):
                await connection.call("identity")

    asyncio.run(main())


CALLS: dict[str, Callable[[SchedulerClient], Awaitable[Any]]] = {
    "identity": lambda scheduler: scheduler.info(),
    "retire_workers": lambda scheduler: scheduler.retire_workers(["cpu-0"]),
    "set_metadata": lambda scheduler: scheduler.set_cluster_name("zoo"),
    "nbytes": lambda scheduler: scheduler.results_size(),
    "dump_state": lambda scheduler: scheduler.usage(),
    "adaptive_target": lambda scheduler: scheduler.adaptive_target(120.0),
    "workers_to_close": lambda scheduler: scheduler.closable_workers(),
    "events": lambda scheduler: read_notices(scheduler, {}, 0.0),
    "planapply_lifetimes": lambda scheduler: scheduler.lifetimes(),
    "planapply_set_lifetimes": lambda scheduler: scheduler.set_lifetimes(Lifetimes()),
    "worker_logs": lambda scheduler: scheduler.logs(["cpu-0"], 5, own=False),
    "logs": lambda scheduler: scheduler.logs([], 5, own=True),
}
"""Every call of a scheduler that planapply makes."""
IDENTITY = frame({"services": {}, "workers": {"tcp://127.0.0.1:1": {"name": "cpu-0"}}})
BAD_ANSWERS = {
    "pickle": frame({"__Pickled__": 1}),
    "garbage": os.urandom(64),
    "text": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "gigabyte": struct.pack("<QQQ", 16 + 2**30, 1, 2**30) + bytes(2**16),
    "list": frame([1, 2]),
    "number": frame(1),
    "other keys": frame({"workers": {"a": 1}, "services": []}),
}
GOOD_ANSWERS = {
    "set_metadata": ("list", "number", "other keys"),  # it is not used
    "adaptive_target": ("number",),
    "workers_to_close": ("list",),
    "events": ("list",),
}


@pytest.mark.parametrize(
    ("operation", "answer"),
    [
        (operation, answer)
        for operation in CALLS
        for answer in BAD_ANSWERS
        if answer not in GOOD_ANSWERS.get(operation, ())
    ],
)
def test_every_call_refuses_a_bad_answer(operation: str, answer: str) -> None:
    before = [IDENTITY] if operation in ("retire_workers", "worker_logs", "logs") else []

    async def main() -> None:
        async with (
            serve(HANDSHAKE, *before, BAD_ANSWERS[answer]) as address,
            connect(Endpoint(private=address), None) as scheduler,
        ):
            with pytest.raises(OSError):  # noqa: PT011 - the texts are tested below
                await CALLS[operation](scheduler)

    asyncio.run(main())


@pytest.mark.parametrize("operation", CALLS)
def test_no_call_outlives_its_time_limit(operation: str) -> None:
    async def main() -> None:
        async with (
            serve(HANDSHAKE) as address,
            connect(Endpoint(private=address), None) as scheduler,
        ):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await CALLS[operation](scheduler)

    asyncio.run(main())


def test_table_has_every_call() -> None:
    source = inspect.getsource(SchedulerClient)
    assert set(re.findall(r"\.call\(\s*\"(\w+)\"", source)) == set(CALLS)


@pytest.mark.parametrize(
    ("place", "answer"),
    [
        # A handshake with other keys is accepted, and then each call takes all its time.
        pytest.param(place, answer, marks=pytest.mark.soak)
        if (place, answer) == ("handshake", "other keys")
        else (place, answer)
        for place in ("handshake", "answer")
        for answer in BAD_ANSWERS
    ],
)
def test_bad_answer_counts_as_no_answer(place: str, answer: str) -> None:
    """As in `status`, `env`, `recover`, and plans, which call these from any thread."""
    sent = [BAD_ANSWERS[answer]] if place == "handshake" else [HANDSHAKE, BAD_ANSWERS[answer]]

    async def main() -> None:
        async with serve(*sent) as address:
            endpoint = Endpoint(private=address)
            assert await asyncio.to_thread(probe, endpoint, None) is None
            assert await asyncio.to_thread(cluster_usage, endpoint, None) is None
            assert await asyncio.to_thread(recorded_logs, endpoint, None, {"cpu-0": 1}, 5) == {}

    asyncio.run(main())


def test_it_holds_beside_a_working_client(tmp_path: Path) -> None:
    """No setting of the process changes: the client goes on unpickling what its scheduler sends."""

    async def main() -> None:
        async with (
            Scheduler(host="tcp://127.0.0.1:0", dashboard_address="127.0.0.1:0") as scheduler,
            Worker(scheduler.address, name="cpu-0", host="127.0.0.1"),
            Client(scheduler.address, asynchronous=True) as client,
        ):
            assert await client.submit(Path, "/a") == Path("/a")
            scheduler.handlers["identity"] = lambda **_: ToPickle(Bomb(tmp_path / "ran"))
            endpoint = Endpoint(private=scheduler.address)
            assert await asyncio.to_thread(probe, endpoint, None) is None
            assert await client.submit(Path, "/b") == Path("/b")

    asyncio.run(main())
    assert not (tmp_path / "ran").exists()


def packed_list(length: int, items: bytes) -> bytes:
    return b"\xdd" + struct.pack(">I", length) + items


@pytest.mark.parametrize(
    ("packed", "reason"),
    [
        (packed_list(MAX_PARTS + 1, b"\xc0" * (MAX_PARTS + 1)), "max_array_len"),
        (
            packed_list(9, packed_list(MAX_PARTS // 8, b"\xc0" * (MAX_PARTS // 8)) * 9),
            "4,000,000 parts",
        ),
        (packed_list(MAX_PARTS // 2 + 1, b"\x80" * (MAX_PARTS // 2 + 1)), "4,000,000 parts"),
        (b"\x91" * 1000 + b"\xc0", "100 parts inside of each other"),
        (b"\x81\xa1a" * 1000 + b"\xc0", "100 parts inside of each other"),
    ],
    ids=["long list", "many elements", "many empty maps", "deep lists", "deep maps"],
)
def test_small_answer_fills_neither_memory_nor_stack(packed: bytes, reason: str) -> None:
    answer = struct.pack("<QQQ", 16 + len(packed), 1, len(packed)) + packed

    async def main() -> None:
        async with (
            serve(HANDSHAKE, answer) as address,
            open_connection(address, None, 30) as connection,
        ):
            with pytest.raises(UndecodableAnswer, match=reason):
                await connection.call("identity")

    asyncio.run(main())


@pytest.mark.parametrize(
    "greeting",
    [
        frame({"__Pickled__": 1}),
        frame([1]),
        struct.pack("<QQQ", 16 + 2**20, 1, 2**20),
        b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n",
    ],
)
def test_a_bad_handshake_is_an_error(greeting: bytes) -> None:
    async def main() -> None:
        async with serve(greeting) as address:
            with pytest.raises(UndecodableAnswer):
                async with open_connection(address, None, 30):
                    pass

    asyncio.run(main())


def test_a_silent_server_times_out() -> None:
    async def main() -> None:
        async with serve() as address:
            with pytest.raises(TimeoutError):
                async with open_connection(address, None, 0.1):
                    pass

    asyncio.run(main())


@pytest.mark.parametrize(
    "address", ["", "cpu-0", "tcp://", "ws://127.0.0.1:1", "tls://127.0.0.1:1", "tcp://127.0.0.1"]
)
def test_invalid_address_is_an_error(address: str) -> None:
    async def main() -> None:
        with pytest.raises(OSError, match=r"not an address|no TLS key"):
            async with open_connection(address, None, 1):
                pass

    asyncio.run(main())


def test_a_server_with_another_key_is_refused() -> None:
    async def main() -> None:
        theirs = build_security(make_tls("theirs"))
        async with Scheduler(
            host="tls://127.0.0.1:0", dashboard_address="127.0.0.1:0", security=theirs
        ) as scheduler:
            with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
                async with open_connection(scheduler.address, make_tls("ours"), 30):
                    pass

    asyncio.run(main())


def test_the_limit_holds_a_large_cluster() -> None:
    # The identity of a worker has about 2 kB.
    assert safe_rpc.MAX_ANSWER > 10_000 * 4096
