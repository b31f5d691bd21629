"""The session of a locked state: shared by simultaneous users, and released by the last one."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from planapply.api.state_session import StateSession
from planapply.ops.scale import LockedCluster


class LockedState:
    """A state whose users are counted."""

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
    locked = LockedState()
    session = StateSession(locked.open)
    first, second = session.open(), session.open()
    assert first.__enter__() is second.__enter__()
    first.__exit__(None, None, None)
    assert (locked.opened, locked.closed) == (1, 0)
    second.__exit__(None, None, None)
    assert (locked.opened, locked.closed) == (1, 1)
    with session.open():
        assert locked.opened == 2
    assert locked.closed == 2


def test_error_is_passed_to_the_state() -> None:
    locked = LockedState()
    session = StateSession(locked.open)
    with pytest.raises(ZeroDivisionError), session.open():
        raise ZeroDivisionError
    assert [type(error) for error in locked.errors] == [ZeroDivisionError]

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async with session.open_async():
                raise ZeroDivisionError

    asyncio.run(main())
    assert locked.opened == locked.closed == 2


def test_failed_open_leaves_the_session_closed() -> None:
    @contextmanager
    def broken() -> Iterator[LockedCluster]:
        raise ZeroDivisionError
        yield

    session = StateSession(broken)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), session.open():
            pass


def test_canceled_wait_releases_the_lock() -> None:
    locked = LockedState()
    session = StateSession(locked.open)

    async def hold() -> None:
        async with session.open_async():
            pass

    async def main() -> None:
        locked.free.clear()
        task = asyncio.ensure_future(hold())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert locked.opened == 0
        locked.free.set()
        async with asyncio.timeout(120):
            while locked.closed != 1:
                await asyncio.sleep(0.01)

    asyncio.run(main())
    assert locked.opened == 1
