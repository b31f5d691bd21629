"""Who holds a lock."""

import os
import platform
from datetime import UTC, datetime
from typing import Self

from pydantic import ConfigDict, Field, ValidationError

from planapply.model.base import Model


class LockInfo(Model):
    """What the holder of a lock says of itself, for the others to read."""

    # A holder of a newer version may say more.
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
    taken_over: "LockInfo | None" = Field(default=None, exclude=True)
    """The dead process whose lock this one was; worth a note to the user."""

    @classmethod
    def of_this_process(cls, lock_id: str, purpose: str) -> Self:
        """What this process says of a lock that it takes now."""
        host = platform.node()
        return cls(
            id=lock_id,
            purpose=purpose,
            who=f"{_user()}@{host}",
            pid=os.getpid(),
            host=host,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            planapply_version=_version(),
        )

    @classmethod
    def parse(cls, data: bytes) -> Self | None:
        """What a lock's first line says; None where it says nothing that we can read."""
        try:
            return cls.model_validate_json(data.partition(b"\n")[0])
        except ValidationError:
            return None

    def encode(self) -> bytes:
        """One line of JSON."""
        return self.model_dump_json().encode() + b"\n"

    def describe(self) -> str:
        """A sentence: who, since when, what for, from where."""
        if not self.who:
            return "The holder has not said who it is."
        since = self.created.replace("T", " ").replace("+00:00", " UTC")
        return (
            f"{self.who}, process {self.pid}, has held it since {since} for {self.purpose}"
            f" (lock {self.id})."
        )

    @property
    def is_local(self) -> bool:
        """Whether its process is, or was, on this machine."""
        return self.host == platform.node()

    @property
    def is_this_process(self) -> bool:
        """Whether it is this very process."""
        return self.is_local and self.pid == os.getpid()

    def is_dead(self) -> bool:
        """Whether its process is known to be gone; False where that can't be known from here."""
        if not (self.is_local and self.pid and self.created):
            return False
        import psutil  # Slow to import, and seldom needed.

        try:
            started: float = psutil.Process(self.pid).create_time()
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied:
            return False
        # The pid was given again, to a process younger than the lock; `created` is whole seconds.
        return started > datetime.fromisoformat(self.created).timestamp() + 2


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # A container's uid may have no name.
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("planapply")
    except PackageNotFoundError:
        return ""
