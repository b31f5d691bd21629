"""A state in a file of this machine."""

import errno
import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path

from planapply.store import filelock
from planapply.store.errors import StateUnreadable, format_path
from planapply.store.files import create_private
from planapply.store.lockinfo import LockInfo
from planapply.store.state_store import BackendError, Conflict


class LocalBackend:
    """One JSON file of mode 0600, its lock as `<file>.lock` beside it."""

    poll_interval = 0.1

    def __init__(self, location: str) -> None:
        self.location = format_path(location)
        # A link's target is the state: replacing the link would part it from its other names.
        self._path = os.path.realpath(os.path.expanduser(location))
        self.folder, self.name = os.path.split(self._path)
        self._unconfirmed: bytes | None = None
        """Our own version that took its place, though we may have failed to make it durable."""

    def load(self) -> tuple[bytes, object] | None:
        """See `Backend.load`; the version is a digest."""
        try:
            # A pipe would never end, a device give anything.
            if not stat.S_ISREG(os.stat(self._path).st_mode):
                raise StateUnreadable(
                    f"the state {self.location} can't be read",
                    "It is not a file. Name another place: `state` in the spec, or --state.",
                )
            data = Path(self._path).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateUnreadable(
                f"the state {self.location} can't be read",
                f"{error.strerror}: {format_path(self._path)}",
            ) from error
        return data, _digest(data)

    def save(self, data: bytes, expected_version: object | None) -> object:
        """See `Backend.save`; the caller holds the lock."""
        try:
            current = self.load()
        except StateUnreadable as error:
            raise BackendError(error.diagnostics[0].detail) from error
        version = current[1] if current else None
        if version is None and expected_version is not None:
            raise Conflict("It has vanished since it was read here.")
        if version not in (expected_version, self._unconfirmed):
            raise Conflict("Somebody else wrote it since it was read here.")
        try:
            self._remove_temporary()
            create_private(self._temporary, data)
            os.replace(self._temporary, self._path)
            self._unconfirmed = _digest(data)
            _sync_folder(self.folder)
        except OSError as error:
            raise BackendError(error.strerror or str(error)) from error
        return _digest(data)

    def acquire(self, lock_id: str, purpose: str) -> filelock.FileLock:
        """See `Backend.acquire`."""
        lock = filelock.acquire(self._path, self.location, lock_id, purpose)
        with suppress(OSError):
            self._remove_temporary()  # it may hold a key, and perhaps nothing is written this time
        return lock

    @property
    def _temporary(self) -> str:
        # Only the lock's holder writes, so that one name will do.
        return self._path + ".tmp"

    def _remove_temporary(self) -> None:
        """Remove what a killed process has left."""
        with suppress(FileNotFoundError):
            os.unlink(self._temporary)

    def unlock(self, lock_id: str) -> LockInfo:
        """See `Store.unlock`."""
        return filelock.break_lock(self._path, self.location, lock_id)

    def lock_info(self) -> LockInfo | None:
        """See `Store.lock_info`."""
        return filelock.find_holder(self._path, self.location)

    def lock_notice(self, lock_id: str) -> str:
        """See `Store.lock_notice`; a dead process's lock is free."""
        return (
            f"The lock {lock_id} on {self.location} stays; the next run on this machine takes it "
            "over by itself."
        )

    def set_deadline(self, enabled: bool) -> None:
        """See `Backend.set_deadline`; a file answers."""


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data).digest()


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # Some network file systems have no such thing.
            raise
    finally:
        os.close(descriptor)
