"""Where a state lives: a local file or an object in a bucket; the only place that touches one."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from planapply.model.state import State
from planapply.store.errors import (
    StateConflict,
    StateError,
    StateInvalid,
    StateLocked,
    StateUnreadable,
    StateWriteError,
)
from planapply.store.lockinfo import LockInfo
from planapply.store.push import check_push
from planapply.store.state_store import StateStore

__all__ = [
    "LockInfo",
    "StateConflict",
    "StateError",
    "StateInvalid",
    "StateLocked",
    "StateUnreadable",
    "StateWriteError",
    "Store",
    "check_push",
    "open_store",
]


class Store(Protocol):
    """One state's place; an object serves one thread at a time, several exclude each other."""

    @property
    def location(self) -> str:
        """As the user gave it; for messages."""

    def read(self) -> State | None:
        """The state, or None if there is none yet; what was seen is what the next `write` replaces.

        Needs no lock. Raises StateUnreadable, or StateError where the place can't be reached.
        """

    def write(self, state: State) -> None:
        """Replaces the version last read or written here; if that was none, there must be none yet.

        The caller has raised `serial`. When it returns, the state is on the disk; when it raises,
        the version of before is intact. Raises StateConflict if somebody else wrote or broke the
        lock, and StateWriteError if writing failed, the newer state then being saved elsewhere.
        Where the lock is not held, it is taken for the moment.
        """

    def lock(
        self,
        purpose: str,
        timeout: float = 0.0,
        *,
        wait: Callable[[float], None] = ...,
        on_wait: Callable[[LockInfo], None] | None = None,
    ) -> AbstractContextManager[LockInfo]:
        """Excludes every other holder while the `with` lasts; `purpose` is what others are told.

        What was read before may be old by now: read again.

        `timeout` in seconds is how long to wait for another holder, of whom `on_wait` hears; `wait`
        is for tests. A file's lock that a dead process of this machine left is taken over: see
        `LockInfo.taken_over`.
        Raises StateLocked when the time is up, StateError where locking is impossible.
        """

    def unlock(self, lock_id: str) -> LockInfo:
        """Breaks the lock with this id, whose holder's next write then fails; gives what it said.

        Raises StateError if there is no lock, another one, or its process lives on this machine.
        """

    def lock_info(self) -> LockInfo | None:
        """Who holds the lock now, as far as can be known from here."""

    def lock_notice(self) -> str:
        """Of the lock, should the process end now: a sentence that says how it is freed, or nothing.

        For a signal handler: nobody is asked.
        """

    def set_deadline(self) -> None:
        """The user wants to stop: from now on a bucket has some seconds, for all its answers together.

        For a signal handler or another thread. The next `lock` waits as long as it takes again.
        """


def open_store(location: str) -> Store:
    """The store for a path, `s3://bucket/key`, `gs://bucket/key` or `az://container/key`.

    Nothing is read yet. Raises StateError for a location that can't be one.
    """
    scheme, separator, rest = location.partition("://")
    if not separator and location and "\0" not in location:
        from planapply.store.local import LocalBackend

        return StateStore(LocalBackend(location))
    bucket, _, key = rest.partition("/")
    if scheme in ("s3", "gs", "az") and bucket and not {"", ".", ".."} & set(key.split("/")):
        from planapply.store.remote import RemoteBackend

        return StateStore(RemoteBackend(location, scheme, bucket, key))
    raise StateError(
        f"{location!r} is no place for a state",
        "Give a path, s3://bucket/key, gs://bucket/key or az://container/key.",
    )
