"""The state while it changes: an update is durable before anything depends on it."""

import threading
from collections.abc import Callable
from typing import TypeVar

from planapply.model.state import State
from planapply.store import Store
from planapply.version import __version__

T = TypeVar("T")
NOTE_DIVISOR = 4  # one over the share of all nodes whose answers may wait for a write


class _Entry:
    def __init__(self, change: Callable[[State], None]) -> None:
        self.change, self.is_durable = change, False


class Journal:
    """Group commit: updates that wait for one write share the next one.

    So the number of writes grows with batches at most. After a failed write nothing more is
    accepted: whoever lost the state must not ask a provider for anything.
    """

    def __init__(self, store: Store, state: State) -> None:
        self._store, self._state = store, state
        self._queue: list[_Entry] = []
        self._queue_lock, self._write_lock = threading.Lock(), threading.Lock()
        self._deferred_weight = 0
        self._failure: BaseException | None = None
        self.writes = 0
        """How often the state was written."""

    def update(self, change: Callable[[State], None]) -> None:
        """Apply `change` and return once it is durable.

        Raises what the store raised, and so does every later update.
        """
        entry = _Entry(change)
        with self._queue_lock:
            self._queue.append(entry)
        with self._write_lock:
            if not entry.is_durable:
                self._commit()

    def update_deferred(self, change: Callable[[State], None], weight: int) -> None:
        """Apply `change`, and write it with the next write: for what can be found out again.

        That is an answer, as long as its intent is durable. `weight` is how many nodes it is about:
        it is written at once where it is much beside all the nodes, so that all the writes of an
        apply together cost what its nodes cost, and not their square. Then call `flush`.
        """
        with self._write_lock:
            self._raise_if_failed()
            change(self._state)
            self._deferred_weight += weight
            if self._deferred_weight * NOTE_DIVISOR >= len(self._state.nodes):
                self._commit()

    def flush(self) -> None:
        """Return once everything that was noted is durable."""
        with self._write_lock:
            if self._deferred_weight and self._failure is None:
                self._commit()

    def read(self, query: Callable[[State], T]) -> T:
        """What `query` gives of the state, unchanged by others while it looks."""
        with self._write_lock:
            return query(self._state)

    def close(self, reason: BaseException) -> BaseException:
        """Accept nothing more: every later update raises `reason`, or what the store has raised
        before; gives which.
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
