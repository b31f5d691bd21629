"""What keeping a state means wherever it lives: versions, conflicts, saving what won't go there."""

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol, TypeVar

from planapply.model.state import State
from planapply.store import codec
from planapply.store.errors import (
    StateConflict,
    StateError,
    StateLocked,
    StateWriteError,
    prepend_diagnostics,
    push_command,
)
from planapply.store.files import save_copy
from planapply.store.lockinfo import LockInfo

T = TypeVar("T")


class Conflict(Exception):
    """What is there is not the version that was to be replaced."""


class BackendError(Exception):
    """It could not be written."""

    def __init__(self, reason: str, advice: str = "") -> None:
        self.reason, self.advice = reason, advice
        super().__init__(reason)


class Lock(Protocol):
    """A lock that is held."""

    info: LockInfo

    def is_held(self) -> bool:
        """Whether nobody broke it; raises BackendError where that can't be found out."""

    def release(self) -> None:
        """Frees it and leaves nothing; raises StateError."""


class Backend(Protocol):
    """One kind of place for a document and its lock."""

    location: str
    name: str
    """A file's name for what can't be written there."""
    folder: str
    """The first choice for such a file."""
    poll_interval: float
    """Seconds between two tries for the lock."""

    def load(self) -> tuple[bytes, object] | None:
        """The document and its version, if it exists; raises StateError."""

    def save(self, data: bytes, expected_version: object | None) -> object:
        """Replaces `expected_version`, or creates; gives the new one. Raises Conflict, BackendError."""

    def acquire(self, lock_id: str, purpose: str) -> Lock:
        """The lock, if it is free; raises StateLocked, StateError."""

    def unlock(self, lock_id: str) -> LockInfo:
        """See `Store.unlock`."""

    def lock_info(self) -> LockInfo | None:
        """See `Store.lock_info`."""

    def lock_notice(self, lock_id: str) -> str:
        """See `Store.lock_notice`."""

    def set_deadline(self, enabled: bool) -> None:
        """Whether to wait for answers for some seconds at most, all together."""


class StateStore:
    """A `Store` in some place."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._held_lock: Lock | None = None
        self._lock_id: str | None = None
        """That of the lock that may be there: from before it is asked for, until it is freed."""
        self._expected_version: object | None = None
        self._saved_copy: str | None = None

    @property
    def location(self) -> str:
        """See `Store.location`."""
        return self._backend.location

    def read(self) -> State | None:
        """See `Store.read`."""
        self._expected_version = None
        found = self._backend.load()
        if found is None:
            return None
        data, version = found
        state = codec.decode(data, self.location)
        # Only now: what can't be read is never overwritten.
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
        self._backend.set_deadline(False)
        lock_id = os.urandom(4).hex()
        lock = wait_for_lock(
            lambda: self._acquire(lock_id, purpose),
            timeout,
            self._backend.poll_interval,
            wait,
            on_wait,
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
        """Free it, also where a signal interrupts that."""
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
        self._backend.set_deadline(True)

    def _replace(self, state: State, lock: Lock) -> None:
        data = codec.encode(state)
        try:
            if not lock.is_held():
                raise Conflict(f"Somebody broke our lock ({lock.info.id}).")
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
        advice = "Run `planapply plan`: VMs that the state doesn't know are found by their tags."
        if saved and self._was_deleted():
            advice = (
                f"What would have been written is in {saved}\nPut it in place, if nobody moved the "
                f"state elsewhere:\n  {push_command(saved, self.location)}"
            )
        elif saved:
            advice += f"\nWhat would have been written is in {saved}"
        return StateConflict(
            f"the state {self.location} is no longer ours to write",
            f"{reason} It was left as it is, and nothing more is asked of the cloud.\n{advice}",
        )

    def _was_deleted(self) -> bool:
        try:
            return self._expected_version is not None and self._backend.load() is None
        except StateError:
            return False

    def _write_error(self, error: BackendError, saved: str | None) -> StateWriteError:
        advice = f"{error.advice}\n" if error.advice else ""
        return StateWriteError(
            f"the state {self.location} can't be written: {error.reason}",
            advice
            + "The version of before is intact. "
            + (
                f"The newer one is in {saved}\nWhen the cause is gone, put it in place:\n"
                f"  {push_command(saved, self.location)}"
                if saved
                else "The newer one could not be saved anywhere else. When the cause is gone, run "
                "`planapply plan`: VMs that the state doesn't know are found by their tags."
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
) -> T:
    """What `attempt` returns once it raises no StateLocked; after `timeout` seconds, that error.

    Tries are `poll_interval` seconds apart on average, at random, so that many waiters
    don't meet again.
    `on_wait` hears of each holder once.
    """
    started, waited, reported_id = time.monotonic(), 0.0, None
    while True:
        try:
            return attempt()
        except StateLocked as locked:
            remaining = timeout - max(waited, time.monotonic() - started)
            if remaining <= 0:
                raise
            if on_wait and locked.holder.id != reported_id:
                reported_id = locked.holder.id
                on_wait(locked.holder)
        delay = min(remaining, random.uniform(0.5, 1.5) * poll_interval)
        wait(delay)
        waited += delay
