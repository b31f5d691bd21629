"""The store of a state in any backend: versions, conflicts, and copies of what cannot be written."""

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol, TypeVar

from planapply.model.state import State
from planapply.store import codec
from planapply.store.aws import AWSSettings
from planapply.store.errors import (
    StateConflict,
    StateError,
    StateLocked,
    StateWriteError,
    prepend_diagnostics,
    push_command,
)
from planapply.store.files import save_copy
from planapply.store.lockinfo import WATCH, LockInfo

T = TypeVar("T")
WATCHER_TIMEOUT = 60.0
"""Seconds that a command waits for a watcher's lock even without a timeout."""
_PLAN_FINDS_VMS = (
    "Run `planapply plan`: it finds VMs that are missing from the state by their tags."
)


class Conflict(Exception):
    """A document that is not the version to be replaced."""


class BackendError(Exception):
    """A failed write."""

    def __init__(self, reason: str, advice: str = "") -> None:
        self.reason, self.advice = reason, advice
        super().__init__(reason)


class Lock(Protocol):
    """A lock that this process holds."""

    info: LockInfo

    def is_held(self) -> bool:
        """Return whether the lock still exists; raise BackendError if that cannot be determined."""

    def release(self) -> None:
        """Release the lock, leaving nothing behind; raise StateError."""


class Backend(Protocol):
    """The storage of a document and its lock."""

    location: str
    aws: AWSSettings
    name: str
    """The name of a local file for a version that could not be written."""
    folder: str
    """The preferred folder for such a file."""
    poll_interval: float
    """Seconds between two attempts to take the lock."""

    def load(self) -> tuple[bytes, object] | None:
        """Return the document and its version, or None if it does not exist; raise StateError."""

    def save(self, data: bytes, expected_version: object | None) -> object:
        """Replace `expected_version`, or create the document if it is None; return the new version.

        Raises Conflict if the document has another version, and BackendError if writing failed.
        """

    def acquire(self, lock_id: str, purpose: str) -> Lock:
        """Take the lock; raise StateLocked if another process holds it, else StateError."""

    def unlock(self, lock_id: str) -> LockInfo:
        """See `Store.unlock`."""

    def lock_info(self) -> LockInfo | None:
        """See `Store.lock_info`."""

    def lock_notice(self, lock_id: str) -> str:
        """See `Store.lock_notice`."""

    def set_deadline(self) -> None:
        """Wait for answers for a few seconds in total from now on."""

    def clear_deadline(self) -> None:
        """Wait for answers without a limit again."""


class StateStore:
    """A `Store` with a backend."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._held_lock: Lock | None = None
        self._lock_id: str | None = None
        """The ID of a lock that may exist: set before the lock is taken, until it is released."""
        self._expected_version: object | None = None
        self._saved_copy: str | None = None

    @property
    def location(self) -> str:
        """See `Store.location`."""
        return self._backend.location

    @property
    def aws(self) -> AWSSettings:
        """See `Store.aws`."""
        return self._backend.aws

    def read(self) -> State | None:
        """See `Store.read`."""
        self._expected_version = None
        found = self._backend.load()
        if found is None:
            return None
        data, version = found
        state = codec.decode(data, self.location)
        # Set only now, so that a state that cannot be read is never overwritten.
        self._expected_version = version
        return state

    def write(self, state: State) -> None:
        """See `Store.write`."""
        if self._held_lock:
            self._replace(state, self._held_lock)
        else:
            with self.lock("write"):
                assert self._held_lock
                self._replace(state, self._held_lock)

    @contextmanager
    def lock(
        self,
        purpose: str,
        timeout: float = 0.0,
        *,
        wait: Callable[[float], None] = time.sleep,
        on_wait: Callable[[LockInfo], None] | None = None,
    ) -> Iterator[LockInfo]:
        """See `Store.lock`."""
        self._backend.clear_deadline()
        lock_id = os.urandom(4).hex()
        lock = wait_for_lock(
            lambda: self._acquire(lock_id, purpose),
            timeout,
            self._backend.poll_interval,
            wait,
            on_wait,
            waits_for_watcher=purpose != WATCH,
        )
        self._held_lock = lock
        try:
            yield lock.info
        except BaseException as error:
            self._held_lock = None
            if not isinstance(error, Exception):  # a signal
                self.set_deadline()
            try:
                self._release(lock)
            except StateError as release_error:
                prepend_diagnostics(error, release_error)
            raise
        self._held_lock = None
        self._release(lock)

    def _acquire(self, lock_id: str, purpose: str) -> Lock:
        self._lock_id = lock_id
        try:
            return self._backend.acquire(lock_id, purpose)
        except BaseException:
            self._lock_id = None
            raise

    def _release(self, lock: Lock) -> None:
        """Release the lock, even if a signal interrupts this."""
        try:
            lock.release()
        except Exception:
            raise
        except BaseException as signal:
            self.set_deadline()
            try:
                lock.release()
            except StateError as release_error:
                prepend_diagnostics(signal, release_error)
            raise
        finally:
            self._lock_id = None

    def unlock(self, lock_id: str) -> LockInfo:
        """See `Store.unlock`."""
        return self._backend.unlock(lock_id)

    def lock_info(self) -> LockInfo | None:
        """See `Store.lock_info`."""
        return self._backend.lock_info()

    def lock_notice(self) -> str:
        """See `Store.lock_notice`."""
        return self._backend.lock_notice(self._lock_id) if self._lock_id else ""

    def set_deadline(self) -> None:
        """See `Store.set_deadline`."""
        self._backend.set_deadline()

    def _replace(self, state: State, lock: Lock) -> None:
        data = codec.encode(state)
        try:
            if not lock.is_held():
                raise Conflict(f"Another process released this process's lock {lock.info.id}.")
            self._expected_version = self._backend.save(data, self._expected_version)
        except Conflict as conflict:
            raise self._conflict_error(str(conflict), self._save_copy(state, data)) from None
        except BackendError as error:
            raise self._write_error(error, self._save_copy(state, data)) from error
        if self._saved_copy:
            with suppress(OSError):
                os.unlink(self._saved_copy)
            self._saved_copy = None

    def _conflict_error(self, reason: str, saved: str | None) -> StateConflict:
        advice = _PLAN_FINDS_VMS
        if saved and self._was_deleted():
            advice = (
                f"The new version was saved to {saved}\nUnless the state was moved elsewhere, "
                f"restore it:\n  {self._push_command(saved)}"
            )
        elif saved:
            advice += f"\nThe new version was saved to {saved}"
        return StateConflict(
            f"the state {self.location} was changed by another process",
            f"{reason} It was not overwritten, and no further cloud requests will be made.\n{advice}",
        )

    def _push_command(self, saved: str) -> str:
        return self.aws.command_prefix + push_command(saved, self.location)

    def _was_deleted(self) -> bool:
        try:
            return self._expected_version is not None and self._backend.load() is None
        except StateError:
            return False

    def _write_error(self, error: BackendError, saved: str | None) -> StateWriteError:
        advice = f"{error.advice}\n" if error.advice else ""
        return StateWriteError(
            f"cannot write the state {self.location}: {error.reason}",
            advice
            + "The previous version is unchanged. "
            + (
                f"The new version was saved to {saved}\nFix the cause, then restore it:\n"
                f"  {self._push_command(saved)}"
                if saved
                else "The new version could not be saved anywhere else. Fix the cause. "
                + _PLAN_FINDS_VMS
            ),
        )

    def _save_copy(self, state: State, data: bytes) -> str | None:
        name = f"{self._backend.name.removesuffix('.json')}.unsaved-{state.serial}"
        saved = save_copy(data, name, [self._backend.folder])
        if saved and self._saved_copy:
            with suppress(OSError):
                os.unlink(self._saved_copy)
        self._saved_copy = saved or self._saved_copy
        return saved


def wait_for_lock(
    attempt: Callable[[], T],
    timeout: float,
    poll_interval: float,
    wait: Callable[[float], None],
    on_wait: Callable[[LockInfo], None] | None,
    *,
    waits_for_watcher: bool = False,
) -> T:
    """Return the result of `attempt` when it no longer raises StateLocked.

    Raises StateLocked after `timeout` seconds; for a watcher's lock after `WATCHER_TIMEOUT` seconds if
    that is longer and `waits_for_watcher`. Attempts are about `poll_interval` seconds apart, at random,
    so that many waiting processes do not collide. Calls `on_wait` once for each holder.
    """
    started, waited, reported_id = time.monotonic(), 0.0, None
    while True:
        try:
            return attempt()
        except StateLocked as locked:
            limit = timeout
            if waits_for_watcher and locked.holder.is_watcher and locked.can_wait:
                limit = max(timeout, WATCHER_TIMEOUT)
            elapsed = max(waited, time.monotonic() - started)
            remaining = limit - elapsed
            if remaining <= 0:
                # A watcher may have been waited for before another process took the lock.
                limit = limit or round(elapsed)
                raise (locked.after(limit) if limit else locked) from None
            if on_wait and locked.holder.id != reported_id:
                reported_id = locked.holder.id
                on_wait(locked.holder)
        delay = min(remaining, random.uniform(0.5, 1.5) * poll_interval)
        wait(delay)
        waited += delay
