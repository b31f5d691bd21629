"""Access to states, in a local file or a bucket; no other package reads or writes them."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from planapply.model.state import State
from planapply.store.aws import NO_SETTINGS, AWSSettings
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
    "NO_SETTINGS",
    "AWSSettings",
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
    """Access to one state. Use an object in one thread at a time; several objects exclude each other."""

    @property
    def location(self) -> str:
        """The location as the user wrote it, for messages."""

    @property
    def aws(self) -> AWSSettings:
        """The settings with which this object was opened, for another one of the same state."""

    def read(self) -> State | None:
        """Return the state, or None if it does not exist; the next `write` replaces this version.

        Needs no lock. Raises StateUnreadable, or StateError if the location cannot be reached.
        """

    def write(self, state: State) -> None:
        """Replace the version that was last read or written by this object, or create the first.

        The caller has increased `serial`. When this returns, the state is on the disk; if it
        raises, the previous version is unchanged. Raises StateConflict if another process wrote the
        state or released the lock, and StateWriteError if writing failed; the new version is then
        saved elsewhere. Takes the lock during the write if it is not held.
        """

    def lock(
        self,
        purpose: str,
        timeout: float = 0.0,
        *,
        wait: Callable[[float], None] = ...,
        on_wait: Callable[[LockInfo], None] | None = None,
    ) -> AbstractContextManager[LockInfo]:
        """Hold the lock during the `with` block; `purpose` is shown to other processes.

        Read the state again afterwards: another process may have changed it before.

        Waits up to `timeout` seconds for another lock holder, which is passed to `on_wait`; for a
        watcher up to `WATCHER_TIMEOUT` seconds, if that is longer and this is no watcher. `wait` is for
        tests. Takes over the lock that a dead process of this machine left: see `LockInfo.taken_over`.
        Raises StateLocked after the timeout, and StateError if locking is impossible.
        """

    def unlock(self, lock_id: str) -> LockInfo:
        """Release another process's lock, whose next write then fails; return its description.

        Raises StateError if there is no lock, if it has another ID, or if its process is running on
        this machine.
        """

    def lock_info(self) -> LockInfo | None:
        """Return the current lock holder, as far as it can be known from this machine."""

    def lock_notice(self) -> str:
        """Return a sentence on how to release the lock if the process exits now; empty if unlocked.

        For a signal handler: sends no request.
        """

    def set_deadline(self) -> None:
        """Limit the time to wait for a bucket to a few seconds in total, since the user wants to stop.

        For a signal handler or another thread. The next `lock` removes the limit.
        """


def open_store(location: str, aws: AWSSettings = NO_SETTINGS) -> Store:
    """Return the store for a path, `s3://bucket/key`, `gs://bucket/key` or `az://container/key`.

    `aws` has the spec's settings for S3. Reads nothing yet. Raises StateError for an invalid location.
    """
    scheme, separator, rest = location.partition("://")
    if not separator and location and "\0" not in location:
        from planapply.store.local import LocalBackend

        return StateStore(LocalBackend(location))
    bucket, _, key = rest.partition("/")
    if scheme in ("s3", "gs", "az") and bucket and not {"", ".", ".."} & set(key.split("/")):
        from planapply.store.remote import RemoteBackend

        return StateStore(RemoteBackend(location, scheme, bucket, key, aws))
    raise StateError(
        f"{location!r} is not a valid location for a state",
        "Use a path, s3://bucket/key, gs://bucket/key or az://container/key.",
    )
