"""The backend for a state in a bucket of S3, GCS, or Azure, through obstore.

Every write is conditional. If the response is lost, or a repeated request meets its own first
attempt, reading the object distinguishes that from a real conflict.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import obstore
from obstore.exceptions import BaseError

from planapply.store.aws import NO_SETTINGS, AWSSettings
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
    wrong_lock_error,
)
from planapply.store.lockinfo import LockInfo
from planapply.store.processes import this_host
from planapply.store.state_store import BackendError, Conflict

_TRIES = 3
# Missing keys and missing buckets are FileNotFoundError, and some invalid keys ValueError.
_ERRORS = (BaseError, FileNotFoundError, ValueError, DeadlineExceeded)


class RemoteBackend:
    """An object in a bucket, and its lock in the object `<key>.lock`."""

    folder = "."
    poll_interval = 1.0

    def __init__(
        self, location: str, scheme: str, bucket: str, key: str, aws: AWSSettings = NO_SETTINGS
    ) -> None:
        self.location, self.aws = location, aws
        self.name = key.rpartition("/")[2]
        self._scheme, self._bucket_name, self._key = scheme, bucket, key
        self._lock_key = f"{key}.lock"
        self.caller = InterruptibleCaller()
        self._unconfirmed: set[bytes] = set()
        """Versions whose write request got no response; they may arrive at any time."""

    @cached_property
    def _bucket(self) -> Bucket:
        return open_bucket(self._scheme, self._bucket_name, self.location, self.aws)

    def load(self) -> tuple[bytes, object] | None:
        """See `Backend.load`; the version is the one of conditional writes."""
        try:
            return self._get(self._key)
        except _ERRORS as error:
            raise self._unreachable_error(error) from None

    def save(self, data: bytes, expected_version: object | None) -> object:
        """See `Backend.save`."""
        version = self._save(data, expected_version)
        # Requests in progress expect an older version: they cannot succeed any more.
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
                    raise Conflict("It was deleted after it was read.")
                if current[0] not in self._unconfirmed:
                    raise Conflict("Another process wrote it after it was read.")
                expected_version = version
            # No other process wrote, so repeating the request is safe. It is necessary if the
            # condition failed because of another request in progress (409), or if the request was
            # lost.
            self._unconfirmed.add(data)
        raise BackendError(*failure)

    def acquire(self, lock_id: str, purpose: str) -> "RemoteLock":
        """See `Backend.acquire`."""
        try:
            return self._acquire(lock_id, purpose)
        except Exception:
            raise
        except BaseException as signal:
            # The interrupted call may have created the lock.
            self.caller.set_deadline()
            try:
                RemoteLock(self, LockInfo.of_this_process(lock_id, purpose)).release()
            except StateError as release_error:
                prepend_diagnostics(signal, release_error)
            raise

    def _acquire(self, lock_id: str, purpose: str) -> "RemoteLock":
        dead: LockInfo | None = None
        version: object | None = None
        for _ in range(_TRIES):
            info = LockInfo.of_this_process(lock_id, purpose)
            try:
                # With the version of the dead process's lock, so that only one process takes it over.
                self._put(self._lock_key, info.encode(), version)
                return RemoteLock(self, info.model_copy(update={"taken_over": dead}))
            except _ERRORS as error:
                # A missing object is a lock that was released; a missing bucket is found by `_find_lock`.
                is_missing = isinstance(error, FileNotFoundError) and version is None
                if had_no_effect(error) or is_missing:
                    raise self._unreachable_error(error) from None
                failure = error
            holder, version = self._find_lock()
            if holder and holder.id == lock_id:
                return RemoteLock(self, holder.model_copy(update={"taken_over": dead}))
            dead = holder if holder and holder.can_be_taken_over() else None
            if holder and not dead:
                raise self._locked_error(holder)
            # The lock was released meanwhile, or its holder is dead, or the bucket was busy (409), or
            # the request was lost.
        raise self._unreachable_error(failure)

    def unlock(self, lock_id: str) -> LockInfo:
        """See `Store.unlock`."""
        holder = self.find_holder()
        if holder is None:
            raise not_locked_error(self.location)
        if holder.id != lock_id:
            raise wrong_lock_error(self.location, lock_id, holder)
        self.remove_lock()
        return holder

    def lock_info(self) -> LockInfo | None:
        """See `Store.lock_info`."""
        holder = self.find_holder()
        return None if holder is None or holder.can_be_taken_over() else holder

    def lock_notice(self, lock_id: str) -> str:
        """See `Store.lock_notice`."""
        command = self.unlock_command(lock_id)
        text = f"Lock {lock_id} on {self.location} may remain; "
        if this_host().boot:
            text += "the next run on this machine takes it over. On another one, first "
        else:
            text += "before the next run, "
        return f"{text}release it: `{command}`"

    def set_deadline(self) -> None:
        """See `Backend.set_deadline`."""
        self.caller.set_deadline()

    def clear_deadline(self) -> None:
        """See `Backend.clear_deadline`."""
        self.caller.clear_deadline()

    def find_holder(self) -> LockInfo | None:
        """Return the lock holder from the lock's object; raise StateError."""
        return self._find_lock()[0]

    def _find_lock(self) -> tuple[LockInfo | None, object | None]:
        """Return the lock holder and the version of the lock's object; raise StateError."""
        try:
            return self._read_lock()
        except _ERRORS as error:
            raise self._unreachable_error(error) from None

    def _read_lock(self) -> tuple[LockInfo | None, object | None]:
        found = self._get(self._lock_key)
        if found is None:
            return None, None
        return LockInfo.parse(found[0]) or LockInfo(id="unknown"), found[1]

    def read_lock(self) -> LockInfo | None:
        """Return the lock holder from the lock's object; raise obstore's errors."""
        return self._read_lock()[0]

    def remove_lock(self) -> None:
        """Remove the lock's object, whichever process holds the lock; raise StateError."""
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
            # Not as a multipart upload, which does not support conditions.
            result = obstore.put(
                self._bucket, key, data, mode=expected_version or "create", use_multipart=False
            )
            return _version(result)

        return self.caller.call(put, is_write=True)

    def unlock_command(self, lock_id: str) -> str:
        """Return the command that releases an abandoned lock."""
        return self.aws.command_prefix + unlock_command(lock_id, self.location)

    def explain_error(self, error: Exception) -> BucketProblem:
        """Explain an error of obstore to the user."""
        return explain_error(error, self.location)

    def _unreachable_error(self, error: Exception) -> StateError:
        reason, advice = self.explain_error(error)
        return StateError(f"cannot reach the state {self.location}: {reason}", advice)

    def _locked_error(self, holder: LockInfo) -> StateLocked:
        is_dead = holder.is_dead()
        advice = (
            "That process no longer exists. Release its lock:"
            if is_dead
            else "release the lock, if that process no longer exists:"
        )
        advice = f"{advice}\n  {self.unlock_command(holder.id)}"
        return StateLocked(self.location, holder, advice, can_wait=not is_dead)


@dataclass
class RemoteLock:
    """A lock object, which this process holds until the object is removed."""

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
        """See `Lock.release`; if another process has the lock by now, the lock stays."""
        status = "may still be"
        try:
            holder = self.backend.find_holder()
            status = "is still"
            # Not all stores have conditional deletes, so there is a short race here.
            if holder and holder.id == self.info.id:
                self.backend.remove_lock()
        except StateError as error:
            problem = error.diagnostics[0]
            raise StateError(
                f"the state {self.backend.location} {status} locked",
                f"{problem.summary}\nFix the cause, then release the lock:\n"
                f"  {self.backend.unlock_command(self.info.id)}",
            ) from error


def _version(meta: Any) -> object:
    # GCS compares `version`, the other stores `e_tag`; none of them accepts None.
    return {name: meta[name] for name in ("e_tag", "version") if meta.get(name) is not None}
