"""A state in a bucket of S3, GCS or Azure, through obstore.

Every write is conditional. One whose answer is lost, or that met its own first try, is told from a
real conflict by reading what is there.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import obstore
from obstore.exceptions import BaseError

from planapply.store.bucket import (
    Bucket,
    BucketProblem,
    DeadlineExceeded,
    InterruptibleCaller,
    explain_error,
    had_no_effect,
    is_missing_bucket,
    open_bucket,
)
from planapply.store.errors import (
    StateError,
    StateLocked,
    not_locked_error,
    prepend_diagnostics,
    unlock_command,
)
from planapply.store.lockinfo import LockInfo
from planapply.store.state_store import BackendError, Conflict

_TRIES = 3
# A missing key and a missing bucket are FileNotFoundError, some impossible keys ValueError.
_ERRORS = (BaseError, FileNotFoundError, ValueError, DeadlineExceeded)


class RemoteBackend:
    """One object, its lock as `<key>.lock` beside it."""

    folder = "."
    poll_interval = 1.0

    def __init__(self, location: str, scheme: str, bucket: str, key: str) -> None:
        self.location = location
        self.name = key.rpartition("/")[2]
        self._scheme, self._bucket_name, self._key = scheme, bucket, key
        self._lock_key = f"{key}.lock"
        self.caller = InterruptibleCaller()
        self._unconfirmed: set[bytes] = set()
        """What we tried to write without hearing that it was; it may arrive at any time."""

    @cached_property
    def _bucket(self) -> Bucket:
        return open_bucket(self._scheme, self._bucket_name, self.location)

    def load(self) -> tuple[bytes, object] | None:
        """See `Backend.load`; the version is what conditional writes take."""
        try:
            return self._get(self._key)
        except _ERRORS as error:
            raise self._unreachable_error(error) from None

    def save(self, data: bytes, expected_version: object | None) -> object:
        """See `Backend.save`."""
        version = self._save(data, expected_version)
        # What is still under way was asked for on top of an older version: it can't succeed now.
        self._unconfirmed.clear()
        return version

    def _save(self, data: bytes, expected_version: object | None) -> object:
        for _ in range(_TRIES):
            try:
                return self._put(self._key, data, expected_version)
            except _ERRORS as error:
                failure = self.explain_error(error)
                if had_no_effect(error):
                    break
            try:
                current = self._get(self._key)
            except _ERRORS as error:
                self._unconfirmed.add(data)
                failure = self.explain_error(error)
                break
            if current and current[0] == data:
                return current[1]
            version = current[1] if current else None
            if version != expected_version:
                if current is None:
                    raise Conflict("It has vanished since it was read here.")
                if current[0] not in self._unconfirmed:
                    raise Conflict("Somebody else wrote it since it was read here.")
                expected_version = version
            # Nobody wrote: it is safe to ask again, and needed where the condition was refused
            # because of some other request under way (409), or where our own is lost.
            self._unconfirmed.add(data)
        raise BackendError(*failure)

    def acquire(self, lock_id: str, purpose: str) -> "RemoteLock":
        """See `Backend.acquire`."""
        try:
            return self._acquire(lock_id, purpose)
        except Exception:
            raise
        except BaseException as signal:
            # The call that it came into may have made the lock.
            self.caller.set_deadline()
            try:
                RemoteLock(self, LockInfo.of_this_process(lock_id, purpose)).release()
            except StateError as release_error:
                prepend_diagnostics(signal, release_error)
            raise

    def _acquire(self, lock_id: str, purpose: str) -> "RemoteLock":
        for _ in range(_TRIES):
            info = LockInfo.of_this_process(lock_id, purpose)
            try:
                self._put(self._lock_key, info.encode(), None)
                return RemoteLock(self, info)
            except _ERRORS as error:
                if had_no_effect(error) or isinstance(error, FileNotFoundError):
                    raise self._unreachable_error(error) from None
                failure = error
            holder = self.find_holder()
            if holder and holder.id == lock_id:
                return RemoteLock(self, holder)
            if holder:
                raise self._locked_error(holder)
            # It was freed meanwhile, or the bucket was busy (409), or our request is lost.
        raise self._unreachable_error(failure)

    def unlock(self, lock_id: str) -> LockInfo:
        """See `Store.unlock`."""
        holder = self.find_holder()
        if holder is None:
            raise not_locked_error(self.location)
        if holder.id != lock_id:
            raise StateError(f"the state {self.location} has no lock {lock_id}", holder.describe())
        self.remove_lock()
        return holder

    def lock_info(self) -> LockInfo | None:
        """See `Store.lock_info`."""
        return self.find_holder()

    def lock_notice(self, lock_id: str) -> str:
        """See `Store.lock_notice`."""
        command = unlock_command(lock_id, self.location)
        return f"The lock {lock_id} on {self.location} may stay; before the next run: {command}"

    def set_deadline(self, enabled: bool) -> None:
        """See `Backend.set_deadline`."""
        if enabled:
            self.caller.set_deadline()
        else:
            self.caller.clear_deadline()

    def find_holder(self) -> LockInfo | None:
        """What the lock's object says; raises StateError."""
        try:
            return self.read_lock()
        except _ERRORS as error:
            raise self._unreachable_error(error) from None

    def read_lock(self) -> LockInfo | None:
        """As `find_holder`, with obstore's errors."""
        found = self._get(self._lock_key)
        return (LockInfo.parse(found[0]) or LockInfo(id="unknown")) if found else None

    def remove_lock(self) -> None:
        """Removes the lock's object, whosoever it is; raises StateError."""
        try:
            self.caller.call(lambda: obstore.delete(self._bucket, self._lock_key), is_write=True)
        except FileNotFoundError:
            pass
        except (BaseError, DeadlineExceeded) as error:
            raise self._unreachable_error(error) from None

    def _get(self, key: str) -> tuple[bytes, object] | None:
        def get() -> tuple[bytes, object]:
            result = obstore.get(self._bucket, key)
            return bytes(result.bytes()), _version(result.meta)

        try:
            return self.caller.call(get)
        except FileNotFoundError as error:
            if is_missing_bucket(error):
                raise
            return None

    def _put(self, key: str, data: bytes, expected_version: Any) -> object:
        def put() -> object:
            # Never in parts: those know no conditions.
            result = obstore.put(
                self._bucket, key, data, mode=expected_version or "create", use_multipart=False
            )
            return _version(result)

        return self.caller.call(put, is_write=True)

    def explain_error(self, error: Exception) -> BucketProblem:
        """What an error of obstore means here."""
        return explain_error(error, self.location)

    def _unreachable_error(self, error: Exception) -> StateError:
        reason, advice = self.explain_error(error)
        return StateError(f"the state {self.location} can't be reached: {reason}", advice)

    def _locked_error(self, holder: LockInfo) -> StateLocked:
        advice = (
            "That process is gone. Break its lock:"
            if holder.is_dead()
            else "Wait for it (--lock-timeout), or, if it has died, break its lock:"
        )
        return StateLocked(
            self.location, holder, f"{advice}\n  {unlock_command(holder.id, self.location)}"
        )


@dataclass
class RemoteLock:
    """A lock object that is ours until somebody removes it."""

    backend: RemoteBackend
    info: LockInfo

    def is_held(self) -> bool:
        """See `Lock.is_held`."""
        try:
            holder = self.backend.read_lock()
        except _ERRORS as error:
            raise BackendError(*self.backend.explain_error(error)) from None
        return holder is not None and holder.id == self.info.id

    def release(self) -> None:
        """See `Lock.release`; another's lock, should ours have been broken, stays."""
        status = "may still be"
        try:
            holder = self.backend.find_holder()
            status = "is still"
            # Stores have no conditional delete in common; the moment in between remains.
            if holder and holder.id == self.info.id:
                self.backend.remove_lock()
        except StateError as error:
            problem = error.diagnostics[0]
            raise StateError(
                f"the state {self.backend.location} {status} locked",
                f"{problem.summary}\nWhen the cause is gone, free it:\n"
                f"  {unlock_command(self.info.id, self.backend.location)}",
            ) from error


def _version(meta: Any) -> object:
    # GCS compares `version`, the others `e_tag`; None is not a version for any.
    return {name: meta[name] for name in ("e_tag", "version") if meta.get(name) is not None}
