"""The locked state is shared by those who ask at the same time, and given back by the last."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from planapply.api.state_session import StateSession
from planapply.ops.scale import LockedCluster


class Door:
    """Counts who is in."""

    def __init__(self) -> None:
        self.opened = self.closed = 0
        self.free = threading.Event()
        self.free.set()
        self.errors: list[BaseException] = []

    @contextmanager
    def open(self) -> Iterator[LockedCluster]:
        assert self.free.wait(120)
        self.opened += 1
        try:
            yield cast(LockedCluster, object())
        except BaseException as error:
            self.errors.append(error)
            raise
        finally:
            self.closed += 1


def test_open_session_is_shared() -> None:
    door = Door()
    session = StateSession(door.open)
    first, second = session.open(), session.open()
    assert first.__enter__() is second.__enter__()
    first.__exit__(None, None, None)
    assert (door.opened, door.closed) == (1, 0)
    second.__exit__(None, None, None)
    assert (door.opened, door.closed) == (1, 1)
    with session.open():
        assert door.opened == 2
    assert door.closed == 2


def test_error_is_passed_to_the_state() -> None:
    door = Door()
    session = StateSession(door.open)
    with pytest.raises(ZeroDivisionError), session.open():
        raise ZeroDivisionError
    assert [type(error) for error in door.errors] == [ZeroDivisionError]

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async with session.open_async():
                raise ZeroDivisionError

    asyncio.run(main())
    assert door.opened == door.closed == 2


def test_failed_open_leaves_the_session_closed() -> None:
    @contextmanager
    def broken() -> Iterator[LockedCluster]:
        raise ZeroDivisionError
        yield

    session = StateSession(broken)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), session.open():
            pass


def test_cancelled_wait_releases_the_lock() -> None:
    door = Door()
    session = StateSession(door.open)

    async def hold() -> None:
        async with session.open_async():
            pass

    async def main() -> None:
        door.free.clear()
        task = asyncio.ensure_future(hold())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert door.opened == 0
        door.free.set()
        async with asyncio.timeout(120):
            while door.closed != 1:
                await asyncio.sleep(0.01)

    asyncio.run(main())
    assert door.opened == 1
