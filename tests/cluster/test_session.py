"""The locked state is shared by those who ask at the same time, and given back by the last."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from planapply.api.state_session import Session
from planapply.ops.scale import Opened


class Door:
    """Counts who is in."""

    def __init__(self) -> None:
        self.opened = self.closed = 0
        self.free = threading.Event()
        self.free.set()
        self.errors: list[BaseException] = []

    @contextmanager
    def open(self) -> Iterator[Opened]:
        assert self.free.wait(120)
        self.opened += 1
        try:
            yield cast(Opened, object())
        except BaseException as error:
            self.errors.append(error)
            raise
        finally:
            self.closed += 1


def test_who_asks_while_it_is_open_joins_in() -> None:
    door = Door()
    session = Session(door.open)
    first, second = session.opened(), session.opened()
    assert first.__enter__() is second.__enter__()
    first.__exit__(None, None, None)
    assert (door.opened, door.closed) == (1, 0)
    second.__exit__(None, None, None)
    assert (door.opened, door.closed) == (1, 1)
    with session.opened():
        assert door.opened == 2
    assert door.closed == 2


def test_an_error_is_told_to_the_state_too() -> None:
    door = Door()
    session = Session(door.open)
    with pytest.raises(ZeroDivisionError), session.opened():
        raise ZeroDivisionError
    assert [type(error) for error in door.errors] == [ZeroDivisionError]

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async with session.held():
                raise ZeroDivisionError

    asyncio.run(main())
    assert door.opened == door.closed == 2


def test_what_can_not_be_opened_is_not_open() -> None:
    @contextmanager
    def broken() -> Iterator[Opened]:
        raise ZeroDivisionError
        yield

    session = Session(broken)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), session.opened():
            pass


def test_who_is_cancelled_while_waiting_for_the_lock_gives_it_back() -> None:
    door = Door()
    session = Session(door.open)

    async def hold() -> None:
        async with session.held():
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
