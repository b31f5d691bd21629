"""Crash points: a process is killed at its n-th side effect.

Python calls audit hooks before each file is opened, each process is started, and each name is
changed. Between two such events only memory changes.
"""

import os
import signal
import sys
import threading
from typing import Any

WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT
SIDE_EFFECTS = frozenset(
    {
        "fcntl.flock",
        "os.kill",
        "os.mkdir",
        "os.putenv",
        "os.remove",
        "os.rename",
        "os.rmdir",
        "os.posix_spawn",
        "shutil.rmtree",
        "socket.connect",
        "subprocess.Popen",
    }
)


class CrashPoints:
    """A counter of the points at which this process can die; it is killed at point `die_at`, from 0."""

    def __init__(self, die_at: int | None) -> None:
        self.die_at, self.points = die_at, 0
        self._lock = threading.Lock()

    def arm(self) -> None:
        """Start counting, until the process exits."""
        sys.addaudithook(self._on_audit_event)

    def _on_audit_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            if not (isinstance(arguments[2], int) and arguments[2] & WRITE_FLAGS):
                return
        elif event not in SIDE_EFFECTS:
            return
        with self._lock:
            self.points += 1
            if self.points - 1 == self.die_at:
                signal.raise_signal(
                    signal.SIGKILL
                )  # of which, other than of os.kill, no hook hears
