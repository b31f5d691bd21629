"""A state in a file of this machine."""

import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from planapply.model.state import State
from planapply.store import codec, filelock
from planapply.store.errors import (
    StateConflict,
    StateUnreadable,
    StateWriteError,
    push_command,
)
from planapply.store.lockinfo import LockInfo
from planapply.store.rescue import create, save_beside
from planapply.store.waiting import until_free

_PAUSE = 0.1


class LocalStore:
    """The state as one JSON file of mode 0600, its lock as `<file>.lock` beside it."""

    def __init__(self, location: str) -> None:
        self.location = location
        # A link's target is the state: replacing the link would part it from its other names.
        self._path = os.path.realpath(os.path.expanduser(location))
        self._held: filelock.FileLock | None = None
        self._seen: bytes | None = None
        """The digest of the version last read or written."""
        self._rescued: str | None = None

    def read(self) -> State | None:
        """See `Store.read`."""
        data = self._bytes()
        if data is None:
            self._seen = None
            return None
        state = codec.decode(data, self.location)
        self._seen = _digest(data)
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
        lock = until_free(
            lambda: filelock.acquire(self._path, self.location, purpose),
            timeout,
            _PAUSE,
            wait,
            on_wait,
        )
        self._held = lock
        try:
            yield lock.info
        finally:
            self._held = None
            lock.release()

    def unlock(self, lock_id: str) -> LockInfo:
        """See `Store.unlock`."""
        return filelock.break_lock(self._path, self.location, lock_id)

    def lock_info(self) -> LockInfo | None:
        """See `Store.lock_info`."""
        return filelock.holder(self._path, self.location)

    def _bytes(self) -> bytes | None:
        try:
            # A pipe would never end, a device give anything.
            if not stat.S_ISREG(os.stat(self._path).st_mode):
                raise StateUnreadable(
                    f"The state {self.location} can't be read",
                    "It is not a file. Name another place: `state` in the spec, or --state.",
                )
            return Path(self._path).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateUnreadable(
                f"The state {self.location} can't be read", f"{error.strerror}: {self._path}"
            ) from error

    def _replace(self, state: State, lock: filelock.FileLock) -> None:
        data = codec.encode(state)
        if not lock.is_ours():
            raise self._conflict(state, data, f"Somebody broke our lock ({lock.info.id}).")
        current = self._bytes()
        if (None if current is None else _digest(current)) != self._seen:
            raise self._conflict(state, data, "Somebody else wrote it since it was read here.")
        try:
            # Only the lock's holder is here, so that one name will do: a killed one's leavings go.
            temporary = self._path + ".tmp"
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            create(temporary, data)
            os.replace(temporary, self._path)
            self._seen = _digest(data)
            _sync_folder(os.path.dirname(self._path))
        except OSError as error:
            raise self._failed(state, data, error) from error
        if self._rescued:
            with suppress(OSError):
                os.unlink(self._rescued)
            self._rescued = None

    def _conflict(self, state: State, data: bytes, what: str) -> StateConflict:
        saved = self._rescue(state, data)
        return StateConflict(
            f"The state {self.location} is no longer ours to write",
            f"{what} It was left as it is, and nothing more is asked of the cloud.\n"
            "Run `planapply plan`: VMs that the state doesn't know are found by their tags."
            + (f"\nWhat would have been written is in {saved}" if saved else ""),
        )

    def _failed(self, state: State, data: bytes, error: OSError) -> StateWriteError:
        saved = self._rescue(state, data)
        return StateWriteError(
            f"The state {self.location} can't be written: {error.strerror}",
            "The version of before is intact. "
            + (
                f"The newer one is in {saved}\nWhen the cause is gone, put it in place:\n"
                f"  {push_command(saved, self.location)}"
                if saved
                else "The newer one could not be saved anywhere else. When the cause is gone, run "
                "`planapply plan`: VMs that the state doesn't know are found by their tags."
            ),
        )

    def _rescue(self, state: State, data: bytes) -> str | None:
        folder, name = os.path.split(self._path)
        stem = name.removesuffix(".json")
        saved = save_beside(data, f"{stem}.unsaved-{state.serial}", [folder])
        if saved and self._rescued:
            with suppress(OSError):
                os.unlink(self._rescued)
        self._rescued = saved or self._rescued
        return saved


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
