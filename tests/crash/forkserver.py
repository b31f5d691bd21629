"""Commands in forks of a process that has imported everything: `python -m crash.forkserver`.

The command is the real one, in a separate process; only the second that Python needs for the imports
is saved. Its module search path, environment, streams, and exit are those of a new process.
"""

import atexit
import ctypes
import fcntl
import gc
import json
import os
import select
import selectors
import socket
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from crash.crash_points import CrashPoints
from sdk import cache_service_models

from planapply import catalog
from planapply.cli import main

TESTS = Path(__file__).parents[1]
Stream = int | IO[Any] | None


@dataclass(frozen=True)
class CommandResult:
    """The result of a command."""

    code: int
    """The exit code; negative: the number of the signal that killed the command."""
    points: int
    """The number of points at which it could have died; 0 if it was killed."""
    out: str
    err: str


class ForkServer:
    """A process that forks commands, until it is closed."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        paths = [str(TESTS), *(path for path in sys.path if path)]
        # An empty home and environment, for settings that are read during an import.
        self._home = tempfile.TemporaryDirectory()
        env = {k: v for k, v in os.environ.items() if not k.startswith(("DASK_", "XDG_"))}
        env |= {"HOME": self._home.name, "PYTHONPATH": os.pathsep.join(paths)}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "crash.forkserver", str(theirs.fileno())],
                env=env,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )

    def start(
        self,
        *arguments: str,
        env: Mapping[str, str],
        cwd: Path | None = None,
        stdin: Stream = subprocess.DEVNULL,
        stdout: Stream = subprocess.PIPE,
        stderr: Stream = subprocess.PIPE,
        die_at: int | None = None,
        on_start: Callable[[int], None] = lambda pid: None,
    ) -> "Command":
        """Start a command, which is killed at point `die_at` (see `CrashPoints`).

        `on_start` is called with its process ID before it does anything.
        """
        request = {
            "arguments": arguments,
            "cwd": str(cwd or Path.cwd()),
            "env": dict(env),
            "die_at": die_at,
        }
        return Command(self._socket, request, on_start, stdin=stdin, stdout=stdout, stderr=stderr)

    def run(self, *arguments: str, **how: Any) -> CommandResult:
        """Run a command, and return its result; `how` as for `start`."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            with self.start(*arguments, stdout=out, stderr=err, **how) as command:
                code = command.wait()
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode(errors="replace"))
        return CommandResult(code, command.points, *texts)

    def close(self) -> None:
        """Stop the server; commands that are running continue."""
        self._socket.close()
        self._process.wait()
        self._home.cleanup()


@cache
def shared_server() -> ForkServer:
    """Return the server of this process, which stops when the process exits."""
    server = ForkServer()
    atexit.register(server.close)
    return server


class Command(subprocess.Popen[str]):
    """`python -m planapply`, forked: its parent is the server, which reports its exit code."""

    def __init__(
        self,
        server: socket.socket,
        request: Mapping[str, Any],
        on_start: Callable[[int], None],
        **streams: Stream,
    ) -> None:
        self._server, self._request, self._on_start = server, request, on_start
        self.points = 0
        super().__init__(["planapply", *request["arguments"]], text=True, **streams)  # type: ignore[call-overload]

    def _execute_child(self, *arguments: Any) -> None:
        # Everything of Popen, except how a process is started and awaited.
        pipes = arguments[10:16]
        ends = (pipes[0], pipes[3], pipes[5])
        streams = [fd if end == -1 else end for fd, end in enumerate(ends)]
        status, reports = os.pipe()
        waits, go = os.pipe()
        network = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        request = json.dumps(self._request).encode()
        socket.send_fds(self._server, [request], [*streams, reports, waits, network])
        for descriptor in (reports, waits, network):
            os.close(descriptor)
        self._status = os.fdopen(status, "rb", buffering=0)
        self.pid = int(self._status.readline())
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]
        self._on_start(self.pid)
        os.close(go)

    def poll(self) -> int | None:
        """Return the exit code, if the command has exited."""
        return self._read_status(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code; raise `subprocess.TimeoutExpired` after `timeout` seconds."""
        code = self._read_status(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return code

    def _read_status(self, timeout: float | None) -> int | None:
        while self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            kind, _, number = self._status.readline().decode().partition(" ")
            if kind == "points":
                self.points = int(number)
            else:
                self.returncode = int(number)
                self._status.close()
        return self.returncode


def serve(requests: socket.socket) -> int:
    """Fork a command for each request, and report its exit code, until there are no more requests.

    Return the exit code: in a fork, that of its command.
    """
    for name in (
        *("dask.execute", "ops.recover", "store.local", "store.bucket", "cli.app", "cli.apply"),
        *("cli.run_apply", "cli.destroy", "cli.plan"),
    ):
        import_module(f"planapply.{name}")
    for name in (
        "planapply_ec2.provider",
        "planapply_libcloud.provider",
        "planapply_local.provider",
        "boto3",
        "libcloud.compute.drivers.ec2",
        "cryptography.x509",
        "obstore.store",
    ):
        import_module(name)
    cache_service_models()
    session = import_module("boto3").Session("none", "none", region_name="eu-west-1")
    for name in ("ec2", "ssm", "sts"):
        session.client(name)
    gc.freeze()
    running: dict[int, tuple[int, int]] = {}
    selector = selectors.DefaultSelector()
    selector.register(requests, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is not requests:
                selector.unregister(key.fd)
                pid, report = running.pop(key.fd)
                _report(report, f"ended {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}")
                os.close(report)
                os.close(key.fd)
                continue
            text, descriptors, _, _ = socket.recv_fds(requests, 1 << 20, 6)
            if not text:
                return 0
            *streams, report, waits, network = descriptors
            if not (pid := os.fork()):
                for watch, (_, other) in running.items():
                    os.close(watch)
                    os.close(other)
                selector.close()
                requests.close()
                return _run(json.loads(text), descriptors)
            for descriptor in (*streams, waits, network):
                os.close(descriptor)
            _report(report, str(pid))
            watch = os.pidfd_open(pid)
            running[watch] = pid, report
            selector.register(watch, selectors.EVENT_READ)


def _report(report: int, text: str) -> None:
    # The test may have failed, and closed the pipe.
    with suppress(BrokenPipeError):
        os.write(report, f"{text}\n".encode())


def _run(request: dict[str, Any], descriptors: list[int]) -> int:
    """Be the command: from here on this is its process."""
    os.setsid()
    *streams, report, waits, network = [
        fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in descriptors
    ]
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    # The network of the lab, if the caller is on it.
    if os.fstat(network).st_ino != os.stat("/proc/self/ns/net").st_ino:
        assert ctypes.CDLL(None).setns(network, 0) == 0
    for descriptor in (*descriptors, *streams, network):
        if descriptor > 2:
            os.close(descriptor)
    os.read(waits, 1)
    os.close(waits)
    if os.isatty(0):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        lines = 1 if number == 2 or os.isatty(number) else -1
        text = os.fdopen(number, "w" if number else "r", lines, encoding="utf-8", closefd=False)
        setattr(sys, name, text)
        setattr(sys, f"__{name}__", text)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.path[:0] = request["env"].get("PYTHONPATH", "").split(os.pathsep)
    sys.argv[1:] = request["arguments"]
    catalog._entries.cache_clear()
    if name := os.environ.get("CRASH_IMPORTS"):
        import_module(name)
    crash_points = CrashPoints(request["die_at"])
    crash_points.arm()
    code = main()
    sys.stdout.flush()
    _report(report, f"points {crash_points.points}")
    return code


if __name__ == "__main__":
    sys.exit(serve(socket.socket(fileno=int(sys.argv[1]))))
