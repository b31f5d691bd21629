"""The identity of a process among all processes of all machines: machine, boot, ID, and start time.

Linux only: elsewhere nothing identifies a boot, and `this_host` returns empty texts.
"""

import hashlib
import hmac
import os
import sys
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

_MACHINE_ID_FILES = ("/etc/machine-id", "/var/lib/dbus/machine-id")
_BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id"
_PID_NAMESPACE = "/proc/self/ns/pid"


class Host(NamedTuple):
    """Where a process ID has a meaning; a text is empty if it is unknown."""

    machine: str
    """A digest of the machine ID; machines that were copied from one image may share it."""
    boot: str
    """A digest of the boot ID, which no other boot of any machine has; containers share it with their host."""
    pids: str
    """The namespace of process IDs, which differs between the containers of one machine."""


def this_host() -> Host:
    """Return where this process runs."""
    return _read_host(os.getpid())


@lru_cache(maxsize=1)
def _read_host(pid: int) -> Host:
    """Return the host of this process, whose ID is `pid`: a child may be in another namespace."""
    if not sys.platform.startswith("linux"):
        return Host("", "", "")
    machine = next(filter(None, map(_digest, _MACHINE_ID_FILES)), "")
    pids = ""
    with suppress(OSError):
        pids = os.readlink(_PID_NAMESPACE)
    boot = _digest(_BOOT_ID_FILE)
    return Host(machine, boot, pids) if boot and pids else Host(machine, "", "")


def _digest(path: str) -> str:
    """Return a digest of the ID in a file; empty without one.

    A machine ID must not leave its machine as it is: see machine-id(5).
    """
    try:
        with open(path, encoding="ascii") as file:
            text = file.read(100).strip().replace("-", "").lower()
    except (OSError, ValueError):
        return ""
    if len(text) != 32 or not text.isalnum() or text == "0" * 32:  # such as "uninitialized"
        return ""
    return hmac.new(text.encode(), b"planapply lock", hashlib.sha256).hexdigest()[:32]


def start_time(pid: int) -> int | None:
    """Return when a process of this host started, in clock ticks since the boot; None if unknown.

    Return 0 if the process does not exist, or has exited and only waits for its parent to read that.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return 0
    except PermissionError:  # another user's
        pass
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name, in parentheses, may contain anything.
            fields = file.read().rpartition(b")")[2].split()
        state, threads, started = fields[0], int(fields[17]), int(fields[19])
    except (OSError, ValueError, IndexError):  # hidden (`hidepid`), or it exits now
        return None
    return 0 if state in (b"Z", b"X") and threads <= 1 else started
