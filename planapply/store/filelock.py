"""The lock of a local state: a flock on `<state>.lock`, a file that describes the lock holder.

The lock belongs to the inode, so a holder can unlink the file before it releases the flock: a
process that waits on the old inode notices that the path names another file. When a process dies,
its flock is released at once, and its file stays behind. A file left by another machine counts as a
lock, since not every shared file system passes flocks on.
"""

import errno
import os
import shlex
import sys
import time
from contextlib import suppress
from dataclasses import dataclass

from planapply.openfile import open_regular
from planapply.store.errors import (
    StateError,
    StateLocked,
    format_path,
    not_locked_error,
    unlock_command,
    wrong_lock_error,
)
from planapply.store.lockinfo import LockInfo

if sys.platform != "win32":
    import fcntl

_MAX_BYTES = 4096
"""Bytes to read; a description is much shorter."""


@dataclass
class FileLock:
    """A lock that is held; closing the descriptor releases it, as does the exit of the process."""

    path: str
    descriptor: int
    info: LockInfo

    def is_held(self) -> bool:
        """Return whether the lock's file still exists; another process releases the lock by removing it."""
        return _is_same_file(self.path, self.descriptor)

    def release(self) -> None:
        """Release the lock, and remove its file."""
        with suppress(OSError):
            if self.is_held():
                os.unlink(self.path)
        os.close(self.descriptor)


def acquire(state: str, location: str, lock_id: str, purpose: str) -> FileLock:
    """Lock the file `state`; raise StateLocked if it is locked, StateError if locking fails."""
    _check_single_name(state, location)
    path = state + ".lock"
    info = LockInfo.of_this_process(lock_id, purpose)
    while True:
        descriptor = _open(path, location, os.O_RDWR | os.O_CREAT)
        try:
            if not _flock(descriptor, location):
                if holder := _read_holder(path, descriptor):
                    raise _locked_error(location, holder)
            elif _is_same_file(path, descriptor):
                # Write before truncating: a reader finds the old or the new first line complete.
                previous = LockInfo.parse(os.pread(descriptor, _MAX_BYTES, 0))
                if previous and previous.host and not previous.is_local:
                    # Not every shared file system has flocks that other machines see.
                    raise _locked_error(location, previous)
                os.pwrite(descriptor, info.encode(), 0)
                os.ftruncate(descriptor, len(info.encode()))
                return FileLock(path, descriptor, info.model_copy(update={"taken_over": previous}))
        except OSError as error:
            os.close(descriptor)
            raise _cannot_lock_error(location, path, error) from error
        except BaseException:
            os.close(descriptor)
            raise
        # The previous holder removed the file in the meantime.
        os.close(descriptor)


def _check_single_name(state: str, location: str) -> None:
    """Raise StateError if the file has a hard link, whose path would have a lock of its own."""
    with suppress(OSError):
        if os.stat(state).st_nlink > 1:
            raise StateError(
                f"cannot lock the state {location}: the file has another name (a hard link)",
                "Through its other name, another process could change the cluster at the same time. "
                "Replace the file by a copy:\n"
                f"  cp -p {shlex.quote(format_path(state))} {shlex.quote(format_path(state))}.copy && "
                f"mv {shlex.quote(format_path(state))}.copy {shlex.quote(format_path(state))}",
            )


def break_lock(state: str, location: str, lock_id: str) -> LockInfo:
    """Remove the lock with this ID, unless its holder is running on this machine."""
    path = state + ".lock"
    if not os.path.lexists(path):
        raise not_locked_error(location)
    descriptor = _open(path, location, os.O_RDWR)
    try:
        is_free = _flock(descriptor, location)
        info = LockInfo.parse(os.pread(descriptor, _MAX_BYTES, 0))
        if info is None or info.id != lock_id:
            raise wrong_lock_error(location, lock_id, info or LockInfo(id="unknown"))
        if not is_free and info.is_local:
            raise StateError(
                f"cannot release lock {lock_id}: its process is running",
                f"{info.describe()}\nStop the process, which releases the lock: `kill {info.pid}`",
            )
        # The process of another machine (in a shared folder) cannot be checked from here. If it is
        # running, its next write notices that the path no longer names the locked file.
        if _is_same_file(path, descriptor):
            os.unlink(path)
        return info
    finally:
        os.close(descriptor)


def find_holder(state: str, location: str) -> LockInfo | None:
    """Return the lock holder; a file left by a dead process does not count."""
    path = state + ".lock"
    try:
        descriptor = open_regular(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(
            f"cannot read the lock of the state {location}", _describe_error(path, error)
        ) from error
    try:
        info = LockInfo.parse(os.pread(descriptor, _MAX_BYTES, 0))
    finally:
        os.close(descriptor)
    return None if info is None or info.is_dead() else info


def _locked_error(location: str, holder: LockInfo) -> StateLocked:
    if holder.pid and not holder.is_local:
        command = unlock_command(holder.id, location)
        advice = f"release the lock, if that process no longer exists:\n  {command}"
    elif holder.pid == os.getpid():
        advice = "The holder is this process: wait with a timeout."
        return StateLocked(location, holder, advice, can_wait=False)
    elif holder.pid:
        advice = f"stop that process: `kill {holder.pid}`"
    else:
        advice = "stop the process that holds the lock."
    return StateLocked(location, holder, advice)


def _read_holder(path: str, descriptor: int) -> LockInfo | None:
    """Return the lock holder; None if the lock was released in the meantime."""
    for _ in range(20):
        if not _is_same_file(path, descriptor):
            return None
        if info := LockInfo.parse(os.pread(descriptor, _MAX_BYTES, 0)):
            return info
        time.sleep(0.005)  # the holder is writing its description
    return LockInfo(id="unknown")


def _open(path: str, location: str, flags: int) -> int:
    try:
        return open_regular(path, flags)
    except FileNotFoundError as error:
        folder = os.path.dirname(path)
        raise StateError(
            f"cannot lock the state {location}: its folder does not exist",
            "Choose another location with `state` in the spec or --state, or create the folder:\n"
            f"  mkdir -p {shlex.quote(format_path(folder))}",
        ) from error
    except OSError as error:
        raise _cannot_lock_error(location, path, error) from error


def _cannot_lock_error(location: str, path: str, error: OSError) -> StateError:
    return StateError(f"cannot lock the state {location}", _describe_error(path, error))


def _describe_error(path: str, error: OSError) -> str:
    """Describe a file that cannot be a lock; planapply itself creates only regular files."""
    reason = (error.strerror or "").capitalize()
    text = f"{reason}: {format_path(path)}"
    if error.errno not in (errno.EINVAL, errno.EMLINK):
        return text
    return f"{text}\nplanapply did not create it. Check which process did, then remove it."


def _flock(descriptor: int, location: str) -> bool:
    if sys.platform == "win32":
        raise StateError(
            f"cannot lock the state {location}",
            "Local states need Linux, macOS, or WSL. Keep the state in a bucket: "
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
            f"cannot lock the state {location}: its file system has no locks",
            f"{error.strerror}. Keep the state on a local disk, or in a bucket: s3://, gs:// or "
            "az://.",
        ) from error
    return True


def _is_same_file(path: str, descriptor: int) -> bool:
    try:
        path_stat, descriptor_stat = os.lstat(path), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (path_stat.st_dev, path_stat.st_ino) == (descriptor_stat.st_dev, descriptor_stat.st_ino)
