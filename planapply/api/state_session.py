"""The state of a running cluster, open for one change at a time."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager

from planapply.fleet import Fleet
from planapply.ops.scale import LockedCluster


class StateSession:
    """Whoever asks while it is open joins in; when the last one leaves, the lock is free again.

    So a change that picks names, ends nodes and launches others is one change to everybody else.
    `open_state` locks and reads the state.
    """

    def __init__(self, open_state: Callable[[], AbstractContextManager[LockedCluster]]) -> None:
        self._open_state = open_state
        self._mutex = threading.Lock()
        self._stack = ExitStack()
        self._users: list[LockedCluster] = []

    @contextmanager
    def open(self) -> Iterator[LockedCluster]:
        """Blocks until the state is ours; for threads."""
        with self._mutex:
            opened = (
                self._users[-1] if self._users else self._stack.enter_context(self._open_state())
            )
            self._users.append(opened)
        try:
            yield opened
        finally:
            with self._mutex:
                self._users.pop()
                if not self._users:
                    self._stack.__exit__(*sys.exc_info())

    @contextmanager
    def open_fleet(self) -> Iterator[Fleet]:
        """What a `RequestQueue` asks for."""
        with self.open() as opened:
            yield opened.fleet

    @asynccontextmanager
    async def open_async(self) -> AsyncIterator[LockedCluster]:
        """As `open`, without blocking the event loop while it waits for the lock."""
        manager = self.open()
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
