"""What keeping a state means wherever it lives: versions, conflicts, saving what won't go there."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from planapply.model.state import State
from planapply.store import codec
from planapply.store.errors import (
    StateConflict,
    StateError,
    StateWriteError,
    push_command,
    tell_too,
)
from planapply.store.lockinfo import LockInfo
from planapply.store.rescue import save_beside
from planapply.store.waiting import until_free


class Conflict(Exception):
    """What is there is not the version that was to be replaced."""


class Failed(Exception):
    """It could not be written."""

    def __init__(self, reason: str, advice: str = "") -> None:
        self.reason, self.advice = reason, advice
        super().__init__(reason)


class Lock(Protocol):
    """A lock that is held."""

    info: LockInfo

    def is_ours(self) -> bool:
        """Whether nobody broke it; raises Failed where that can't be found out."""

    def release(self) -> None:
        """Frees it and leaves nothing; raises StateError."""


class Place(Protocol):
    """One kind of place for a document and its lock."""

    location: str
    name: str
    """A file's name for what can't be written there."""
    folder: str
    """The first choice for such a file."""
    pause: float
    """Seconds between two tries for the lock."""

    def load(self) -> tuple[bytes, object] | None:
        """The document and its version, if it exists; raises StateError."""

    def save(self, data: bytes, seen: object | None) -> object:
        """Replaces the version `seen`, or creates; gives the new one. Raises Conflict, Failed."""

    def acquire(self, lock_id: str, purpose: str) -> Lock:
        """The lock, if it is free; raises StateLocked, StateError."""

    def unlock(self, lock_id: str) -> LockInfo:
        """See `Store.unlock`."""

    def lock_info(self) -> LockInfo | None:
        """See `Store.lock_info`."""

    def leaves(self, lock_id: str) -> str:
        """See `Store.leaves`."""

    def hurry(self, on: bool) -> None:
        """Whether to wait for answers for some seconds at most, all together."""


class DocumentStore:
    """A `Store` in some place."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._held: Lock | None = None
        self._lock_id: str | None = None
        """That of the lock that may be there: from before it is asked for, until it is freed."""
        self._seen: object | None = None
        self._rescued: str | None = None

    @property
    def location(self) -> str:
        """See `Store.location`."""
        return self._place.location

    def read(self) -> State | None:
        """See `Store.read`."""
        self._seen = None
        found = self._place.load()
        if found is None:
            return None
        data, version = found
        state = codec.decode(data, self.location)
        # Only now: what can't be read is never overwritten.
        self._seen = version
        return state

    def write(self, state: State) -> None:
        """See `Store.write`."""
        if self._held:
            self._replace(state, self._held)
        else:
            with self.lock("write"):
                assert self._held
                self._replace(state, self._held)

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
        self._place.hurry(False)
        lock_id = os.urandom(4).hex()
        lock = until_free(
            lambda: self._acquire(lock_id, purpose), timeout, self._place.pause, wait, on_wait
        )
        self._held = lock
        try:
            yield lock.info
        except BaseException as error:
            self._held = None
            if not isinstance(error, Exception):  # a signal
                self.hurry()
            try:
                self._release(lock)
            except StateError as left:
                tell_too(error, left)
            raise
        self._held = None
        self._release(lock)

    def _acquire(self, lock_id: str, purpose: str) -> Lock:
        self._lock_id = lock_id
        try:
            return self._place.acquire(lock_id, purpose)
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
            self.hurry()
            try:
                lock.release()
            except StateError as left:
                tell_too(signal, left)
            raise
        finally:
            self._lock_id = None

    def unlock(self, lock_id: str) -> LockInfo:
        """See `Store.unlock`."""
        return self._place.unlock(lock_id)

    def lock_info(self) -> LockInfo | None:
        """See `Store.lock_info`."""
        return self._place.lock_info()

    def leaves(self) -> str:
        """See `Store.leaves`."""
        return self._place.leaves(self._lock_id) if self._lock_id else ""

    def hurry(self) -> None:
        """See `Store.hurry`."""
        self._place.hurry(True)

    def _replace(self, state: State, lock: Lock) -> None:
        data = codec.encode(state)
        try:
            if not lock.is_ours():
                raise Conflict(f"Somebody broke our lock ({lock.info.id}).")
            self._seen = self._place.save(data, self._seen)
        except Conflict as conflict:
            raise self._conflict(str(conflict), self._rescue(state, data)) from None
        except Failed as failed:
            raise self._failed(failed, self._rescue(state, data)) from failed
        if self._rescued:
            with suppress(OSError):
                os.unlink(self._rescued)
            self._rescued = None

    def _conflict(self, what: str, saved: str | None) -> StateConflict:
        advice = "Run `planapply plan`: VMs that the state doesn't know are found by their tags."
        if saved and self._has_vanished():
            advice = (
                f"What would have been written is in {saved}\nPut it in place, if nobody moved the "
                f"state elsewhere:\n  {push_command(saved, self.location)}"
            )
        elif saved:
            advice += f"\nWhat would have been written is in {saved}"
        return StateConflict(
            f"the state {self.location} is no longer ours to write",
            f"{what} It was left as it is, and nothing more is asked of the cloud.\n{advice}",
        )

    def _has_vanished(self) -> bool:
        try:
            return self._seen is not None and self._place.load() is None
        except StateError:
            return False

    def _failed(self, failed: Failed, saved: str | None) -> StateWriteError:
        advice = f"{failed.advice}\n" if failed.advice else ""
        return StateWriteError(
            f"the state {self.location} can't be written: {failed.reason}",
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

    def _rescue(self, state: State, data: bytes) -> str | None:
        name = f"{self._place.name.removesuffix('.json')}.unsaved-{state.serial}"
        saved = save_beside(data, name, [self._place.folder])
        if saved and self._rescued:
            with suppress(OSError):
                os.unlink(self._rescued)
        self._rescued = saved or self._rescued
        return saved
