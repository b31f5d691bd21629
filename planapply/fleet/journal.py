"""The state while it changes: an update is durable before anything depends on it."""

import threading
from collections.abc import Callable
from typing import TypeVar

import planapply
from planapply.model.state import State
from planapply.store import Store

T = TypeVar("T")


class _Entry:
    def __init__(self, change: Callable[[State], None]) -> None:
        self.change, self.durable = change, False


class Journal:
    """Group commit: updates that wait for one write share the next one.

    So the number of writes grows with batches, not with nodes. After a failed write nothing more is
    accepted: whoever lost the state must not ask a provider for anything.
    """

    def __init__(self, store: Store, state: State) -> None:
        self._store, self._state = store, state
        self._queue: list[_Entry] = []
        self._queue_lock, self._write_lock = threading.Lock(), threading.Lock()
        self._broken: BaseException | None = None
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
            if not entry.durable:
                self._commit()

    def read(self, look: Callable[[State], T]) -> T:
        """What `look` gives of the state, unchanged by others while it looks."""
        with self._write_lock:
            return look(self._state)

    def close(self, reason: BaseException) -> None:
        """Accept nothing more: every later update raises `reason`."""
        with self._write_lock:
            self._broken = self._broken or reason

    def _commit(self) -> None:
        if self._broken is not None:
            raise self._broken
        with self._queue_lock:
            entries, self._queue = self._queue, []
        try:
            for entry in entries:
                entry.change(self._state)
            self._state.serial += 1
            self._state.planapply_version = planapply.__version__
            self._store.write(self._state)
        except BaseException as error:
            self._broken = error
            raise
        self.writes += 1
        for entry in entries:
            entry.durable = True
