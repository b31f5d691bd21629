"""A process that dies at the n-th thing that it does to the world, with no say in it.

Python tells audit hooks of each file that is opened, each process that is started, each name that
is changed, before it happens: between two of them nothing changes but memory.
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
    """Counts the points at which this process can die; it does at point `die_at`, from 0."""

    def __init__(self, die_at: int | None) -> None:
        self.die_at, self.points = die_at, 0
        self._lock = threading.Lock()

    def arm(self) -> None:
        """From now on, for the rest of the process's life."""
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
