"""The state of a running cluster, open for one change at a time."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager

from planapply.fleet import Fleet
from planapply.ops.scale import LockedCluster

LOCK_TIMEOUT = 60.0  # seconds that a change waits for the state's lock


class StateSession:
    """The locked state, shared by all that use it at the same time.

    The first user locks and reads the state (with `open_state`), the last one releases the lock. So
    to other processes, a change that reserves names, terminates nodes, and launches others is one
    change.
    """

    def __init__(self, open_state: Callable[[], AbstractContextManager[LockedCluster]]) -> None:
        self._open_state = open_state
        self._mutex = threading.Lock()
        self._stack = ExitStack()
        self._users: list[LockedCluster] = []

    @contextmanager
    def open(self) -> Iterator[LockedCluster]:
        """Use the locked state; block until the lock is free. For threads."""
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
        """Use the fleet of the locked state, as a `RequestQueue` does."""
        with self.open() as opened:
            yield opened.fleet

    @asynccontextmanager
    async def open_async(self) -> AsyncIterator[LockedCluster]:
        """Use the locked state without blocking the event loop while the lock is not free."""
        manager = self.open()
        entering = asyncio.ensure_future(asyncio.to_thread(manager.__enter__))
        try:
            opened = await asyncio.shield(entering)
        except asyncio.CancelledError:
            # The thread cannot be stopped, so the lock is released once the thread has it.
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
        # Not in a thread: while the process exits, no thread can be started.
        manager.__exit__(None, None, None)
