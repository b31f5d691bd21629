"""Chromium for tests that look at pages: Debian's package, driven by playwright of the integrations venv."""

import fcntl
import shutil
import socket
import struct
from contextlib import suppress

import pytest
from network_guard import GUARD

CHROMIUM = shutil.which("chromium") or ""

needs_chromium = pytest.mark.skipif(
    not CHROMIUM, reason="there is no chromium; `make chromium` installs Debian's package, as root"
)

ARGUMENTS = (
    "--no-sandbox",  # root has no sandbox, and the pages are the tests' own
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
"""Arguments with which Chromium resolves no name, and so connects to this machine only."""
_SET_ADDRESS = 0x8916
_PROBED = "2001:4860:4860::8888"
"""The address to which Chromium connects a UDP socket, without sending anything, to learn whether there is IPv6."""


def keep_probe_here(config: pytest.Config) -> None:
    """Assign the probed address to the loopback of this process's own network, if it has one.

    Otherwise the guard counts the probe as an attempt to leave this machine.
    """
    if config.stash[GUARD].isolated:
        request = struct.pack(
            "16sIi", socket.inet_pton(socket.AF_INET6, _PROBED), 128, socket.if_nametoindex("lo")
        )
        with (
            socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as any_socket,
            suppress(FileExistsError),  # an earlier test has done it
        ):
            fcntl.ioctl(any_socket, _SET_ADDRESS, request)
