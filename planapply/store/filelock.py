"""The lock of a local state: a flock on `<state>.lock`, in which its holder says who it is.

The lock is held on the inode that the path names, so a holder may unlink the file while it still
holds it: whoever waits on the old inode sees that the path has moved on. A dead process's flock is
gone at once, and the file that it leaves tells of it; one that another machine has left is a lock.
"""

import errno
import os
import shlex
import sys
import time
from contextlib import suppress
from dataclasses import dataclass

from planapply.store.errors import (
    StateError,
    StateLocked,
    format_path,
    not_locked_error,
    unlock_command,
)
from planapply.store.lockinfo import LockInfo

if sys.platform != "win32":
    import fcntl

_MAX_BYTES = 4096
"""Bytes; what a holder says of itself is far less."""


@dataclass
class FileLock:
    """A lock that is held; closing the descriptor, as the process's end does, frees it."""

    path: str
    descriptor: int
    info: LockInfo

    def is_held(self) -> bool:
        """Whether nobody removed the lock's file and so broke the lock."""
        return _is_same_file(self.path, self.descriptor)

    def release(self) -> None:
        """Frees the lock and leaves no file."""
        with suppress(OSError):
            if self.is_held():
                os.unlink(self.path)
        os.close(self.descriptor)


def acquire(state: str, location: str, lock_id: str, purpose: str) -> FileLock:
    """The lock of the file `state`; raises StateLocked if it is held, StateError if it can't be."""
    path = state + ".lock"
    info = LockInfo.of_this_process(lock_id, purpose)
    while True:
        descriptor = _open(path, location, os.O_RDWR | os.O_CREAT)
        try:
            if not _flock(descriptor, location):
                if holder := _read_holder(path, descriptor):
                    raise _locked_error(location, holder)
            elif _is_same_file(path, descriptor):
                # First line first: a reader in between finds the old or the new holder whole.
                previous = LockInfo.parse(os.pread(descriptor, _MAX_BYTES, 0))
                if previous and previous.host and not previous.is_local:
                    # Not every shared folder has locks that other machines see.
                    raise _locked_error(location, previous)
                os.pwrite(descriptor, info.encode(), 0)
                os.ftruncate(descriptor, len(info.encode()))
                return FileLock(path, descriptor, info.model_copy(update={"taken_over": previous}))
        except OSError as error:
            os.close(descriptor)
            raise StateError(
                f"the state {location} can't be locked", f"{error.strerror}: {format_path(path)}"
            ) from error
        except BaseException:
            os.close(descriptor)
            raise
        # Its last holder removed it while we looked.
        os.close(descriptor)


def break_lock(state: str, location: str, lock_id: str) -> LockInfo:
    """Removes the lock with this id, unless its holder is a living process of this machine."""
    path = state + ".lock"
    if not os.path.exists(path):
        raise not_locked_error(location)
    descriptor = _open(path, location, os.O_RDWR)
    try:
        is_free = _flock(descriptor, location)
        info = LockInfo.parse(os.pread(descriptor, _MAX_BYTES, 0))
        if info is None or info.id != lock_id:
            raise StateError(
                f"the state {location} has no lock {lock_id}",
                info.describe() if info else "Its lock has not been signed.",
            )
        if not is_free and info.is_local:
            raise StateError(
                f"the lock {lock_id} belongs to a process that runs",
                f"{info.describe()}\nEnd it, and the lock is free at once: kill {info.pid}",
            )
        # Another machine's process (a shared folder) can't be looked at from here. Should it live,
        # its next write sees that the path no longer names what it locked.
        if _is_same_file(path, descriptor):
            os.unlink(path)
        return info
    finally:
        os.close(descriptor)


def find_holder(state: str, location: str) -> LockInfo | None:
    """Who holds the lock; a dead process's leavings are no lock."""
    path = state + ".lock"
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(
            f"the lock of the state {location} can't be read",
            f"{error.strerror}: {format_path(path)}",
        ) from error
    try:
        info = LockInfo.parse(os.pread(descriptor, _MAX_BYTES, 0))
    finally:
        os.close(descriptor)
    return None if info is None or info.is_dead() else info


def _locked_error(location: str, holder: LockInfo) -> StateLocked:
    if holder.pid and not holder.is_local:
        advice = (
            "Wait for it (--lock-timeout), or, if that process is gone, break the lock:\n"
            f"  {unlock_command(holder.id, location)}"
        )
    elif holder.pid == os.getpid():
        advice = "That is this very process: wait for it, with a timeout."
    elif holder.pid:
        advice = f"Wait for it (--lock-timeout), or end it: kill {holder.pid}"
    else:
        advice = "Wait for it (--lock-timeout), or end it."
    return StateLocked(location, holder, advice)


def _read_holder(path: str, descriptor: int) -> LockInfo | None:
    """Who holds it; None if it was released meanwhile."""
    for _ in range(20):
        if not _is_same_file(path, descriptor):
            return None
        if info := LockInfo.parse(os.pread(descriptor, _MAX_BYTES, 0)):
            return info
        time.sleep(0.005)  # It is signing at this moment.
    return LockInfo(id="unknown")


def _open(path: str, location: str, flags: int) -> int:
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError as error:
        folder = os.path.dirname(path)
        raise StateError(
            f"the folder of the state {location} does not exist",
            f"Make it, or name another place with `state` in the spec or --state:\n"
            f"  mkdir -p {shlex.quote(format_path(folder))}",
        ) from error
    except OSError as error:
        raise StateError(
            f"the state {location} can't be locked", f"{error.strerror}: {format_path(path)}"
        ) from error


def _flock(descriptor: int, location: str) -> bool:
    if sys.platform == "win32":
        raise StateError(
            f"the state {location} can't be locked",
            "Local states need Linux or macOS (or WSL). Keep the state in a bucket: "
            "s3://, gs:// or az://.",
        )
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise
        raise StateError(
            f"the state {location} can't be locked",
            f"Its file system has no locks ({error.strerror}). Keep the state on a local disk, or "
            "in a bucket: s3://, gs:// or az://.",
        ) from error
    return True


def _is_same_file(path: str, descriptor: int) -> bool:
    try:
        path_stat, descriptor_stat = os.stat(path), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (path_stat.st_dev, path_stat.st_ino) == (descriptor_stat.st_dev, descriptor_stat.st_ino)
