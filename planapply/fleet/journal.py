"""A state and its changes: an update is durable before anything depends on it."""

import threading
from collections.abc import Callable
from typing import TypeVar

from planapply.model.state import State
from planapply.store import Store
from planapply.version import __version__

T = TypeVar("T")
DEFERRED_SHARE = 4  # answers about up to one node in so many may wait for a write


class _Entry:
    def __init__(self, change: Callable[[State], None]) -> None:
        self.change, self.is_durable = change, False


class Journal:
    """A state that threads update; updates that wait for a write share the next one (group commit).

    Thus the number of writes is at most that of the batches. After a failed write, every update fails:
    a process that cannot record its requests must not send any. `stamp` is called with the state
    before each write, and must send no request.
    """

    def __init__(
        self, store: Store, state: State, stamp: Callable[[State], None] = lambda state: None
    ) -> None:
        self._store, self._state, self._stamp = store, state, stamp
        self._queue: list[_Entry] = []
        self._queue_lock, self._write_lock = threading.Lock(), threading.Lock()
        self._deferred_weight = 0
        self._failure: BaseException | None = None
        self.writes = 0
        """Number of writes so far."""

    def update(self, change: Callable[[State], None]) -> None:
        """Apply `change` and return when it is durable.

        Raises the store's error, and so does every later update.
        """
        entry = _Entry(change)
        with self._queue_lock:
            self._queue.append(entry)
        with self._write_lock:
            if not entry.is_durable:
                self._commit()

    def update_deferred(self, change: Callable[[State], None], weight: int) -> None:
        """Apply `change`, and write it with a later write.

        Use it for an answer of a provider whose intent is durable: if it is lost, the next run finds
        it again. `weight` is the number of nodes that it concerns. When the deferred changes concern
        many of the nodes, they are written at once; so the cost of all writes of an apply grows
        linearly with its nodes. Call `flush` at the end.
        """
        with self._write_lock:
            self._raise_if_failed()
            change(self._state)
            self._deferred_weight += weight
            if self._deferred_weight * DEFERRED_SHARE >= len(self._state.nodes):
                self._commit()

    def flush(self) -> None:
        """Return when all deferred changes are durable."""
        with self._write_lock:
            if self._deferred_weight and self._failure is None:
                self._commit()

    def read(self, query: Callable[[State], T]) -> T:
        """Return `query(state)`; no other thread changes the state meanwhile."""
        with self._write_lock:
            return query(self._state)

    def close(self, reason: BaseException) -> BaseException:
        """Make every later update fail with `reason`, or with an earlier error of the store.

        Return that exception.
        """
        with self._write_lock:
            self._failure = self._failure or reason
            return self._failure

    def _raise_if_failed(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _commit(self) -> None:
        self._raise_if_failed()
        with self._queue_lock:
            entries, self._queue = self._queue, []
        try:
            for entry in entries:
                entry.change(self._state)
            self._stamp(self._state)
            self._state.serial += 1
            self._state.planapply_version = __version__
            self._store.write(self._state)
        except BaseException as error:
            self._failure = error
            raise
        self.writes += 1
        self._deferred_weight = 0
        for entry in entries:
            entry.is_durable = True
