"""The description of a lock holder, stored in the lock."""

import os
import platform
from datetime import UTC, datetime
from typing import Self

from pydantic import ConfigDict, Field, ValidationError, field_validator

from planapply.model.base import Model
from planapply.store.processes import start_time, this_host
from planapply.version import __version__

WATCH = "watch"
"""The purpose of a watcher's lock, for which other commands wait even without a timeout."""
_MAX_LENGTH = 200
"""Characters to keep of a text in a lock; planapply's own are shorter."""


class LockInfo(Model):
    """The lock holder's description of itself, for other processes."""

    # A newer version of planapply may write more fields.
    model_config = ConfigDict(extra="ignore")

    id: str
    purpose: str = ""
    """The command, such as `apply`."""
    who: str = ""
    """user@host"""
    pid: int = 0
    host: str = ""
    created: str = ""
    """ISO 8601, UTC."""
    planapply_version: str = ""
    machine: str = ""
    """See `Host`; empty if unknown, as in a lock of an older version, and on macOS."""
    boot: str = ""
    pids: str = ""
    started: int = 0
    """When the process started, in clock ticks since the boot; 0 if unknown."""
    taken_over: "LockInfo | None" = Field(default=None, exclude=True)
    """The dead process that held this lock before; worth a note to the user."""

    @classmethod
    def of_this_process(cls, lock_id: str, purpose: str) -> Self:
        """Return this process's description, for a lock that it takes now."""
        host, here, pid = platform.node(), this_host(), os.getpid()
        return cls(
            id=lock_id,
            purpose=purpose,
            who=f"{_user()}@{host}",
            pid=pid,
            host=host,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            planapply_version=__version__,
            machine=here.machine,
            boot=here.boot,
            pids=here.pids,
            started=(start_time(pid) or 0) if here.boot else 0,
        )

    @field_validator("*", mode="before")
    @classmethod
    def _sanitize(cls, value: object) -> object:
        """Return a text on one line: anyone who can write the lock must not write lines of output."""
        if not isinstance(value, str):
            return value
        text = value[:_MAX_LENGTH]
        return "".join(c if c.isprintable() else "?" for c in text)

    @field_validator("pid", mode="before")
    @classmethod
    def _check_pid(cls, value: object) -> object:
        """Return 0, an unknown process, for a number that no process has."""
        return value if isinstance(value, int) and 0 < value < 1 << 31 else 0

    @field_validator("started", mode="before")
    @classmethod
    def _check_started(cls, value: object) -> object:
        """Return 0, an unknown time, for a number that no process has."""
        return value if type(value) is int and 0 < value < 1 << 63 else 0

    @field_validator("created")
    @classmethod
    def _check_created(cls, value: str) -> str:
        """Return an empty text for anything but a time in UTC."""
        try:
            time = datetime.fromisoformat(value)
        except ValueError:
            return ""
        is_valid = time.tzinfo is not None and 1970 < time.year < 9999
        return time.astimezone(UTC).isoformat(timespec="seconds") if is_valid else ""

    @classmethod
    def parse(cls, data: bytes) -> Self | None:
        """Return the description in the first line of a lock; None if it is not readable."""
        try:
            return cls.model_validate_json(data.partition(b"\n")[0])
        except ValidationError:
            return None

    def encode(self) -> bytes:
        """Return one line of JSON."""
        return self.model_dump_json().encode() + b"\n"

    def describe(self) -> str:
        """Return a sentence: who holds the lock, since when, and for which command."""
        if not self.who:
            return "The lock holder is unknown."
        since = f" since {self.since}" if self.since else ""
        purpose = f", for {self.purpose}" if self.purpose else ""
        return f"{self.name} has held lock {self.id}{since}{purpose}."

    @property
    def since(self) -> str:
        """The time when the lock was taken, for people; empty if it is unknown."""
        return self.created.replace("T", " ").replace("+00:00", " UTC")

    @property
    def name(self) -> str:
        """The holder's user, machine, and process ID."""
        if not self.who:
            return "an unknown process"
        return f"{self.who} (process {self.pid})" if self.pid else self.who

    @property
    def is_watcher(self) -> bool:
        """Whether the holder is a watcher, which holds the lock for one round only."""
        return self.purpose == WATCH

    @property
    def is_local(self) -> bool:
        """Whether the holder's process is, or was, on this machine."""
        here = this_host()
        if self._has_comparable_pid:
            return True
        is_other = self.machine and here.machine and self.machine != here.machine
        return self.host == platform.node() and not is_other

    @property
    def is_this_process(self) -> bool:
        """Whether the holder is this process."""
        is_comparable = self._has_comparable_pid if self.boot else self.is_local
        return is_comparable and self.pid == os.getpid()

    @property
    def _has_comparable_pid(self) -> bool:
        """Whether the holder's process ID has a meaning here: same boot, and same namespace."""
        here = this_host()
        return bool(here.boot) and (self.boot, self.pids) == (here.boot, here.pids)

    def is_dead(self) -> bool:
        """Return whether the holder's process has certainly exited; False if that is unknown."""
        here = this_host()
        if not self.pid:
            return False
        if not self.boot:
            return self._is_dead_by_host_name()
        if self._has_comparable_pid:
            started = start_time(self.pid)
            if started is None:
                return False
            is_reused = bool(self.started) and started != self.started
            return not started or is_reused
        # Copies of a machine have its machine ID, but hardly its host name as well.
        is_same_machine = bool(here.machine) and (self.machine, self.host) == (
            here.machine,
            platform.node(),
        )
        return is_same_machine and bool(here.boot) and self.boot != here.boot

    def can_be_taken_over(self) -> bool:
        """Return whether the holder has certainly exited, by more than a host name, which others may have."""
        return bool(self.boot) and self.is_dead()

    def _is_dead_by_host_name(self) -> bool:
        """Return whether there is no such process, if nothing but the host's name is known."""
        if not (self.is_local and self.created):
            return False
        import psutil  # slow to import, and rarely needed

        try:
            started: float = psutil.Process(self.pid).create_time()
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied:
            return False
        # A process that is younger than the lock has the same ID; `created` has whole seconds.
        return started > datetime.fromisoformat(self.created).timestamp() + 2


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user ID may have no name
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"
