"""The state of a running cluster, open for one change at a time."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager

from planapply.fleet import Fleet
from planapply.ops.scale import Opened


class Session:
    """Whoever asks while it is open joins in; when the last one leaves, the lock is free again.

    So a change that picks names, ends nodes and launches others is one change to everybody else.
    `open` locks and reads the state.
    """

    def __init__(self, open: Callable[[], AbstractContextManager[Opened]]) -> None:
        self._open = open
        self._mutex = threading.Lock()
        self._stack = ExitStack()
        self._users: list[Opened] = []

    @contextmanager
    def opened(self) -> Iterator[Opened]:
        """Blocks until the state is ours; for threads."""
        with self._mutex:
            opened = self._users[-1] if self._users else self._stack.enter_context(self._open())
            self._users.append(opened)
        try:
            yield opened
        finally:
            with self._mutex:
                self._users.pop()
                if not self._users:
                    self._stack.__exit__(*sys.exc_info())

    @contextmanager
    def fleet(self) -> Iterator[Fleet]:
        """What a `Queue` asks for."""
        with self.opened() as opened:
            yield opened.fleet

    @asynccontextmanager
    async def held(self) -> AsyncIterator[Opened]:
        """As `opened`, without blocking the event loop while it waits for the lock."""
        manager = self.opened()
        entering = asyncio.ensure_future(asyncio.to_thread(manager.__enter__))
        try:
            opened = await asyncio.shield(entering)
        except asyncio.CancelledError:
            # The thread can't be stopped: what it gets is given back.
            entering.add_done_callback(
                lambda done: (
                    done.cancelled() or done.exception() or manager.__exit__(None, None, None)
                )
            )
            raise
        try:
            yield opened
        except BaseException:
            manager.__exit__(*sys.exc_info())
            raise
        # Not in a thread: at the end of the process there are none any more.
        manager.__exit__(None, None, None)
