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
    Line,
    NoAnswer,
    Trouble,
    bucket_is_missing,
    never_sent,
    open_bucket,
    trouble,
)
from planapply.store.errors import StateError, StateLocked, not_locked, tell_too, unlock_command
from planapply.store.lockinfo import LockInfo
from planapply.store.state_store import Conflict, Failed

_TRIES = 3
# A missing key and a missing bucket are FileNotFoundError, some impossible keys ValueError.
_ERRORS = (BaseError, FileNotFoundError, ValueError, NoAnswer)


class RemotePlace:
    """One object, its lock as `<key>.lock` beside it."""

    folder = "."
    pause = 1.0

    def __init__(self, location: str, scheme: str, bucket: str, key: str) -> None:
        self.location = location
        self.name = key.rpartition("/")[2]
        self._scheme, self._bucket_name, self._key = scheme, bucket, key
        self._lock_key = f"{key}.lock"
        self.line = Line()
        self._unconfirmed: set[bytes] = set()
        """What we tried to write without hearing that it was; it may arrive at any time."""

    @cached_property
    def _bucket(self) -> Bucket:
        return open_bucket(self._scheme, self._bucket_name, self.location)

    def load(self) -> tuple[bytes, object] | None:
        """See `Place.load`; the version is what conditional writes take."""
        try:
            return self._get(self._key)
        except _ERRORS as error:
            raise self._unreachable(error) from None

    def save(self, data: bytes, seen: object | None) -> object:
        """See `Place.save`."""
        version = self._save(data, seen)
        # What is still under way was asked for on top of an older version: it can't succeed now.
        self._unconfirmed.clear()
        return version

    def _save(self, data: bytes, seen: object | None) -> object:
        for _ in range(_TRIES):
            try:
                return self._put(self._key, data, seen)
            except _ERRORS as error:
                failure = self.trouble(error)
                if never_sent(error):
                    break
            try:
                current = self._get(self._key)
            except _ERRORS as error:
                self._unconfirmed.add(data)
                failure = self.trouble(error)
                break
            if current and current[0] == data:
                return current[1]
            version = current[1] if current else None
            if version != seen:
                if current is None:
                    raise Conflict("It has vanished since it was read here.")
                if current[0] not in self._unconfirmed:
                    raise Conflict("Somebody else wrote it since it was read here.")
                seen = version
            # Nobody wrote: it is safe to ask again, and needed where the condition was refused
            # because of some other request under way (409), or where our own is lost.
            self._unconfirmed.add(data)
        raise Failed(*failure)

    def acquire(self, lock_id: str, purpose: str) -> "RemoteLock":
        """See `Place.acquire`."""
        try:
            return self._acquire(lock_id, purpose)
        except Exception:
            raise
        except BaseException as signal:
            # The call that it came into may have made the lock.
            self.line.hurry()
            try:
                RemoteLock(self, LockInfo.of_this_process(lock_id, purpose)).release()
            except StateError as left:
                tell_too(signal, left)
            raise

    def _acquire(self, lock_id: str, purpose: str) -> "RemoteLock":
        for _ in range(_TRIES):
            info = LockInfo.of_this_process(lock_id, purpose)
            try:
                self._put(self._lock_key, info.encode(), None)
                return RemoteLock(self, info)
            except _ERRORS as error:
                if never_sent(error) or isinstance(error, FileNotFoundError):
                    raise self._unreachable(error) from None
                failure = error
            holder = self.holder()
            if holder and holder.id == lock_id:
                return RemoteLock(self, holder)
            if holder:
                raise self._locked(holder)
            # It was freed meanwhile, or the bucket was busy (409), or our request is lost.
        raise self._unreachable(failure)

    def unlock(self, lock_id: str) -> LockInfo:
        """See `Store.unlock`."""
        holder = self.holder()
        if holder is None:
            raise not_locked(self.location)
        if holder.id != lock_id:
            raise StateError(f"the state {self.location} has no lock {lock_id}", holder.describe())
        self.remove_lock()
        return holder

    def lock_info(self) -> LockInfo | None:
        """See `Store.lock_info`."""
        return self.holder()

    def leaves(self, lock_id: str) -> str:
        """See `Store.leaves`."""
        command = unlock_command(lock_id, self.location)
        return f"The lock {lock_id} on {self.location} may stay; before the next run: {command}"

    def hurry(self, on: bool) -> None:
        """See `Place.hurry`."""
        if on:
            self.line.hurry()
        else:
            self.line.calm()

    def holder(self) -> LockInfo | None:
        """What the lock's object says; raises StateError."""
        try:
            return self.read_lock()
        except _ERRORS as error:
            raise self._unreachable(error) from None

    def read_lock(self) -> LockInfo | None:
        """As `holder`, with obstore's errors."""
        found = self._get(self._lock_key)
        return (LockInfo.parse(found[0]) or LockInfo(id="unknown")) if found else None

    def remove_lock(self) -> None:
        """Removes the lock's object, whosoever it is; raises StateError."""
        try:
            self.line.ask(lambda: obstore.delete(self._bucket, self._lock_key), changes=True)
        except FileNotFoundError:
            pass
        except (BaseError, NoAnswer) as error:
            raise self._unreachable(error) from None

    def _get(self, key: str) -> tuple[bytes, object] | None:
        def get() -> tuple[bytes, object]:
            result = obstore.get(self._bucket, key)
            return bytes(result.bytes()), _version(result.meta)

        try:
            return self.line.ask(get)
        except FileNotFoundError as error:
            if bucket_is_missing(error):
                raise
            return None

    def _put(self, key: str, data: bytes, seen: Any) -> object:
        def put() -> object:
            # Never in parts: those know no conditions.
            result = obstore.put(
                self._bucket, key, data, mode=seen or "create", use_multipart=False
            )
            return _version(result)

        return self.line.ask(put, changes=True)

    def trouble(self, error: Exception) -> Trouble:
        """What an error of obstore means here."""
        return trouble(error, self.location)

    def _unreachable(self, error: Exception) -> StateError:
        reason, advice = self.trouble(error)
        return StateError(f"the state {self.location} can't be reached: {reason}", advice)

    def _locked(self, holder: LockInfo) -> StateLocked:
        way_out = (
            "That process is gone. Break its lock:"
            if holder.is_dead()
            else "Wait for it (--lock-timeout), or, if it has died, break its lock:"
        )
        return StateLocked(
            self.location, holder, f"{way_out}\n  {unlock_command(holder.id, self.location)}"
        )


@dataclass
class RemoteLock:
    """A lock object that is ours until somebody removes it."""

    place: RemotePlace
    info: LockInfo

    def is_ours(self) -> bool:
        """See `Lock.is_ours`."""
        try:
            holder = self.place.read_lock()
        except _ERRORS as error:
            raise Failed(*self.place.trouble(error)) from None
        return holder is not None and holder.id == self.info.id

    def release(self) -> None:
        """See `Lock.release`; another's lock, should ours have been broken, stays."""
        still = "may still be"
        try:
            holder = self.place.holder()
            still = "is still"
            # Stores have no conditional delete in common; the moment in between remains.
            if holder and holder.id == self.info.id:
                self.place.remove_lock()
        except StateError as error:
            problem = error.diagnostics[0]
            raise StateError(
                f"the state {self.place.location} {still} locked",
                f"{problem.summary}\nWhen the cause is gone, free it:\n"
                f"  {unlock_command(self.info.id, self.place.location)}",
            ) from error


def _version(meta: Any) -> object:
    # GCS compares `version`, the others `e_tag`; None is not a version for any.
    return {name: meta[name] for name in ("e_tag", "version") if meta.get(name) is not None}
