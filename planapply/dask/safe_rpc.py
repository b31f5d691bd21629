"""Calls of a Dask scheduler that never run what the scheduler answers.

distributed's own rpc unpickles whatever the peer sends, also with `deserialize=False`
(`distributed.protocol.core.loads`). A command holds cloud credentials, and a scheduler runs the
code of everybody who may send it a task. So this module speaks Dask's wire format itself, and reads
plain msgpack only: one connection each, no setting of the process, no import of distributed.

The format (distributed 2025.3 to 2026.8: `comm/tcp.py`, `protocol/utils.py`): eight bytes with the
length of what follows, the number of frames, the length of each, the frames. A message without
pickled or serialized parts is one frame. Both sides begin with a handshake.
"""

import asyncio
import os
import ssl
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import msgpack  # type: ignore[import-untyped]

from planapply.model.state import TLS

MAX_ANSWER = 64 * 2**20
"""Bytes. The identity of 10,000 workers takes 20 MB."""
MAX_PARTS = 4_000_000
"""Maps, lists, and elements of both in one answer: each takes a byte or more, and up to 64 bytes of memory."""
MAX_DEPTH = 100
"""Maps and lists inside of each other; what reads an answer calls itself for each."""
MAX_HANDSHAKE = 2**16
"""Bytes."""
_HANDSHAKE = {"compression": None, "python": sys.version_info[:3], "pickle-protocol": 4}
_MARKERS = frozenset({"__Serialized__", "__Pickled__"})


class UndecodableAnswer(OSError):
    """An answer that is no plain data: pickled, too large, or not Dask's format at all."""


class SchedulerConnection:
    """One connection; it serves one call at a time."""

    def __init__(
        self, address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.address, self._reader, self._writer = address, reader, writer

    async def call(self, operation: str, **arguments: Any) -> Any:
        """Call a handler of the scheduler and return its answer as plain data.

        Lists come as tuples, sets as lists. Raises OSError if the connection breaks, and
        UndecodableAnswer for an answer that would have to be unpickled or has more than
        `MAX_ANSWER` bytes. Set a time limit around it: a scheduler may never answer.
        """
        await self._write({"op": operation, "reply": True, **arguments})
        answer = await self._read(MAX_ANSWER)
        if isinstance(answer, dict) and answer.get("status") == "uncaught-error":
            raise OSError(f"the scheduler failed in {operation!r}")
        return answer

    async def shake_hands(self) -> None:
        """Exchange what both sides support; raises as `call` does."""
        await self._write(_HANDSHAKE)
        if not isinstance(await self._read(MAX_HANDSHAKE), dict):
            raise UndecodableAnswer("the handshake is not Dask's")

    async def _write(self, message: dict[str, Any]) -> None:
        frame: bytes = msgpack.packb(message)
        self._writer.write(struct.pack("<QQQ", 16 + len(frame), 1, len(frame)) + frame)
        await self._writer.drain()

    async def _read(self, limit: int) -> Any:
        try:
            size, frames, length = struct.unpack("<QQQ", await self._reader.readexactly(24))
            if frames != 1 or size != 16 + length:
                raise UndecodableAnswer("the answer has parts that would have to be unpickled")
            if length > limit:
                raise UndecodableAnswer(f"the answer has {length:,} bytes, more than {limit:,}")
            frame = await self._reader.readexactly(length)
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("the scheduler closed the connection") from error
        try:
            return _decode(frame)
        except UndecodableAnswer:
            raise
        except Exception as error:  # msgpack raises what a malformed frame makes it raise
            raise UndecodableAnswer(f"the answer cannot be decoded: {error}") from error


def _decode(frame: bytes) -> Any:
    parts = 0

    def count(value: Any) -> Any:
        nonlocal parts
        parts += 1 + len(value)
        if parts > MAX_PARTS:
            raise UndecodableAnswer(f"the answer has more than {MAX_PARTS:,} parts")
        return value

    answer = msgpack.unpackb(
        frame,
        object_hook=lambda value: _plain(count(value)),
        list_hook=count,
        use_list=False,
        strict_map_key=False,
        max_array_len=MAX_PARTS,
        max_map_len=MAX_PARTS,
    )
    _check_depth(answer)
    return answer


def _check_depth(answer: Any) -> None:
    level = [answer]
    for _ in range(MAX_DEPTH):
        level = [
            part
            for value in level
            if isinstance(value, dict | tuple)
            for part in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise UndecodableAnswer(f"the answer has more than {MAX_DEPTH} parts inside of each other")


def _plain(value: dict[Any, Any]) -> Any:
    """Return what a map of the answer stands for; distributed marks what is not plain data by keys."""
    if not _MARKERS.isdisjoint(value):
        raise UndecodableAnswer("the answer has parts that would have to be unpickled")
    return value.get("as-list", ()) if "__Set__" in value else value


@asynccontextmanager
async def open_connection(
    address: str, tls: TLS | None, timeout: float
) -> AsyncIterator[SchedulerConnection]:
    """Connect to a scheduler, such as `tls://10.0.0.5:8786`, and shake hands.

    `timeout` is in seconds, for each of the two. Raises OSError (TimeoutError is one) if nothing
    answers, if what answers is no Dask scheduler, and if its certificate is not the cluster's.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("tcp", "tls") or parts.hostname is None or parts.port is None:
        raise OSError(f"{address!r} is not an address of a Dask scheduler")
    if parts.scheme == "tls" and tls is None:
        raise OSError(f"the cluster of {address} has no TLS key")
    # Never fall back to plain TCP: the address may come from a state that others can write.
    context = None if tls is None else client_context(tls)
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=context)
    connection = SchedulerConnection(address, reader, writer)
    try:
        async with asyncio.timeout(timeout):
            await connection.shake_hands()
        yield connection
    finally:
        writer.close()
        try:
            async with asyncio.timeout(1.0):
                await writer.wait_closed()
        except (OSError, TimeoutError):  # TLS waits for the peer's answer, which may never come
            writer.transport.abort()
            await asyncio.sleep(0)


def client_context(tls: TLS) -> ssl.SSLContext:
    """Return the client's side of the cluster's key pair, which is its own authority."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=tls.certificate)
    context.check_hostname = False  # the pair is the cluster's, whatever the address
    # OpenSSL reads a key from files only; this one is in memory, and no other process can open it.
    descriptor = os.memfd_create("planapply-tls", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, f"{tls.key.get_secret_value()}\n{tls.certificate}".encode())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context
