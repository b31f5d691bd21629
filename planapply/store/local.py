"""The backend for a state in a local file."""

import hashlib
import os
from contextlib import suppress

from planapply.model.paths import expand_home
from planapply.openfile import read_file
from planapply.store import filelock
from planapply.store.aws import AWSSettings
from planapply.store.errors import StateUnreadable, format_path
from planapply.store.files import replace_file
from planapply.store.lockinfo import LockInfo
from planapply.store.state_store import BackendError, Conflict


class LocalBackend:
    """A JSON file with mode 0600, and its lock in `<file>.lock` in the same folder."""

    poll_interval = 0.1
    aws = AWSSettings()

    def __init__(self, location: str) -> None:
        self.location = format_path(location)
        # The state is the target of a link: replacing the link would separate it from other names.
        self._path = os.path.realpath(expand_home(location))
        self.folder, self.name = os.path.split(self._path)
        self._unconfirmed: set[bytes] = set()
        """Versions whose write failed, although the file may have been replaced by then."""

    def load(self) -> tuple[bytes, object] | None:
        """See `Backend.load`; the version is a digest."""
        try:
            data = self._read()
        except OSError as error:
            raise StateUnreadable(
                f"cannot read the state {self.location}: {error.strerror}",
                "Choose another location with `state` in the spec, or with --state.",
            ) from error
        return None if data is None else (data, _digest(data))

    def _read(self) -> bytes | None:
        try:
            return read_file(self._path)
        except FileNotFoundError:
            return None
        except IsADirectoryError:
            raise OSError(None, "not a regular file") from None

    def save(self, data: bytes, expected_version: object | None) -> object:
        """See `Backend.save`; the caller holds the lock."""
        try:
            current = self._read()
        except OSError as error:
            raise BackendError(error.strerror or str(error)) from error
        version = None if current is None else _digest(current)
        if version is None and expected_version is not None:
            raise Conflict("It was deleted after it was read.")
        if version != expected_version and version not in self._unconfirmed:
            raise Conflict("Another process wrote it after it was read.")
        digest = _digest(data)
        self._unconfirmed.add(digest)
        try:
            self._remove_temporary()
            replace_file(self._path, data, self._temporary)
        except OSError as error:
            raise BackendError(error.strerror or str(error)) from error
        self._unconfirmed.clear()
        return digest

    def acquire(self, lock_id: str, purpose: str) -> filelock.FileLock:
        """See `Backend.acquire`."""
        lock = filelock.acquire(self._path, self.location, lock_id, purpose)
        with suppress(OSError):
            self._remove_temporary()  # it may contain a key, and this process may write nothing
        return lock

    @property
    def _temporary(self) -> str:
        # One name is enough, since only the lock holder writes.
        return self._path + ".tmp"

    def _remove_temporary(self) -> None:
        """Remove the file that a killed process left."""
        with suppress(FileNotFoundError):
            os.unlink(self._temporary)

    def unlock(self, lock_id: str) -> LockInfo:
        """See `Store.unlock`."""
        return filelock.break_lock(self._path, self.location, lock_id)

    def lock_info(self) -> LockInfo | None:
        """See `Store.lock_info`."""
        return filelock.find_holder(self._path, self.location)

    def lock_notice(self, lock_id: str) -> str:
        """See `Store.lock_notice`; the lock of a process that exited is free."""
        return f"Lock {lock_id} on {self.location} remains; the next run on this machine takes it over."

    def set_deadline(self) -> None:
        """Do nothing: a file does not keep anyone waiting."""

    def clear_deadline(self) -> None:
        """Do nothing; see `set_deadline`."""


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data).digest()
