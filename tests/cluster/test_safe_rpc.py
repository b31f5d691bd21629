"""A scheduler's answer is data: it is never unpickled, and it cannot fill the memory."""

import asyncio
import os
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
from distributed import Scheduler, Worker

from planapply.dask import safe_rpc
from planapply.dask.safe_rpc import UndecodableAnswer, open_connection
from planapply.dask.scheduler import build_security
from planapply.fleet.tls import make_tls
from planapply.model.state import TLS

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
            Worker(scheduler.address, name="cpu-0", security=security, host="127.0.0.1"),
            open_connection(scheduler.address, tls, 30) as connection,
        ):
            identity = await connection.call("identity")
            assert [w["name"] for w in identity["workers"].values()] == ["cpu-0"]
            await connection.call("set_metadata", keys=["a"], value={"name": "b"})
            assert await connection.call("get_metadata", keys=["a"]) == {"name": "b"}
            retired = await connection.call(
                "retire_workers", names=["cpu-0"], remove=True, close_workers=True
            )
            assert [worker["name"] for worker in retired.values()] == ["cpu-0"]

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
