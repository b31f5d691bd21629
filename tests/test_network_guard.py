"""The network guard reports every attempt to leave this machine, and nothing else."""

import socket
import subprocess
import sys
from contextlib import suppress

import pytest
from network_guard import GUARD, NetworkGuard

ELSEWHERE = ("192.0.2.1", 9)
"""An address for documentation: no machine has it."""


@pytest.fixture
def guard(pytestconfig: pytest.Config) -> NetworkGuard:
    """The guard of this process; what a test takes from it is not held against the test."""
    return pytestconfig.stash[GUARD]


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_connection_is_refused_and_named(guard: NetworkGuard, kind: int) -> None:
    with (
        socket.socket(type=kind) as ours,
        pytest.raises(OSError, match=r"unreachable|must not connect"),
    ):
        ours.connect(ELSEWHERE)
    assert guard.attempts() == ["192.0.2.1 (socket.connect)"]
    assert guard.attempts() == []


def test_a_look_up_of_another_machine_is_named(guard: NetworkGuard) -> None:
    with pytest.raises(OSError, match=r"resolution|must not connect|not known"):
        socket.getaddrinfo("scheduler.example", 8786)
    assert guard.attempts() == ["scheduler.example (socket.getaddrinfo)"]


def test_a_child_process_is_caught_too(guard: NetworkGuard) -> None:
    if not guard.isolated:
        pytest.skip("only root has a network namespace, which sees child processes")
    script = f"import socket; socket.create_connection({ELSEWHERE})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "Network is unreachable" in done.stderr
    assert guard.attempts() == ["an address that a child process chose"]


def test_this_machine_may_be_reached(guard: NetworkGuard) -> None:
    for host in ("127.0.0.1", "127.31.0.4", "localhost", socket.gethostname()):
        with suppress(ConnectionRefusedError):
            socket.create_connection((host, 1)).close()
    assert guard.attempts() == []
