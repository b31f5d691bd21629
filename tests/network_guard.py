"""A guard that fails each test during which any process tries to connect beyond this machine.

As root, `isolate` moves this process into a network namespace that has loopback and no route:
nothing can leave it, and the kernel counts every attempt, of child processes too. An audit hook names
the address if the attempt comes from this process; without root it is the only guard, and refuses.
"""

import ctypes
import errno
import fcntl
import ipaddress
import os
import socket
import struct
import sys
from typing import Any

import pytest

_NEW_NETWORK = 0x40000000
_SET_FLAGS, _UP = 0x8914, 0x41
_THIS = "/proc/thread-self/"
_COUNTERS = (("net/snmp", "Ip:", "OutNoRoutes"), ("net/snmp6", "Ip6OutNoRoutes", ""))


class NetworkGuard:
    """Attempts to leave this machine, of this process and, in a namespace, of its children."""

    def __init__(self) -> None:
        self._named: list[str] = []
        self._counters: list[tuple[int, str, str]] = []
        self._counted = 0
        self.isolated = isolate()
        """Whether child processes are guarded too."""
        self._namespace = namespace()
        if self.isolated:
            # Open files show the namespace in which they were opened, wherever this thread goes.
            for name, prefix, column in _COUNTERS:
                self._counters.append((os.open(_THIS + name, os.O_RDONLY), prefix, column))
        sys.addaudithook(self._hear)

    def attempts(self) -> list[str]:
        """Return the addresses that were tried since the last call, and how."""
        before, self._counted = self._counted, self._count()
        named, self._named = self._named, []
        if self._counted > before and not named:
            return ["an address that a child process chose"]
        return named

    def _count(self) -> int:
        return sum(_read(*counter) for counter in self._counters)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("socket.connect", "socket.sendto", "socket.getaddrinfo"):
            return
        looked_up = event == "socket.getaddrinfo"
        host = arguments[0] if looked_up else _host(arguments[1])
        if not is_remote(host, looked_up=looked_up) or namespace() != self._namespace:
            return
        self._named.append(f"{host} ({event})")
        if not self.isolated:
            raise OSError(errno.ENETUNREACH, f"a test must not connect to {host}")


GUARD = pytest.StashKey[NetworkGuard]()
"""Where pytest's config has the guard of this process."""


def isolate() -> bool:
    """Move this thread, and threads and processes that it starts, into a network of its own."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    if ctypes.CDLL(None).unshare(_NEW_NETWORK):
        return False  # not allowed in this container
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sH14x", b"lo", _UP))
    return True


def namespace() -> int:
    """Return the network namespace of this thread; 0 if the system has none."""
    try:
        return os.stat(_THIS + "ns/net").st_ino
    except OSError:
        return 0


def is_remote(host: object, *, looked_up: bool) -> bool:
    """Return whether another machine is needed to connect to a host, or only to look it up."""
    if isinstance(host, bytes):
        host = host.decode(errors="replace")
    if not isinstance(host, str) or host in ("", "localhost", socket.gethostname()):
        return False
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return True
    return not (looked_up or address.is_loopback or address.is_unspecified)


def _host(address: object) -> object:
    return address[0] if isinstance(address, tuple) and address else None


def _read(file: int, prefix: str, column: str) -> int:
    lines = os.pread(file, 1 << 20, 0).decode().splitlines()
    rows = [line.split() for line in lines if line.startswith(prefix)]
    if not column:
        return int(rows[0][1]) if rows else 0
    return int(dict(zip(*rows, strict=True))[column])
