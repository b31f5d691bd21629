"""Commands in forks of a process that has imported everything: `python -m crash.forkserver`.

The command is the real one, in a process of its own; only the second that Python needs to import
it is saved. Orders and answers are JSON, one a line.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from crash.fuse import CrashPoints


@dataclass(frozen=True)
class CommandResult:
    """How a command ended."""

    code: int
    """Negative: the signal that ended it."""
    points: int
    """At how many points it could have died; 0 if it did."""
    out: str
    err: str


class ForkServer:
    """Runs one command after the other; an object serves one thread."""

    def __init__(self, env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "crash.forkserver"],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self,
        *arguments: str,
        cwd: Path,
        env: Mapping[str, str],
        die_at: int | None = None,
        on_start: Callable[[int], None] = lambda pid: None,
    ) -> CommandResult:
        """One command in the folder `cwd`, killed at point `die_at` (see `CrashPoints`).

        `on_start` hears its pid before it does anything.
        """
        assert self._process.stdin
        request = {"arguments": arguments, "cwd": str(cwd), "env": dict(env), "die_at": die_at}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        on_start(self._read_answer()["pid"])
        print("go", file=self._process.stdin, flush=True)
        return CommandResult(**self._read_answer())

    def _read_answer(self) -> dict[str, Any]:
        assert self._process.stdout
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def serve() -> None:
    """Until there are no more orders."""
    for name in (
        *("dask.execute", "ops.recover", "store.local", "cli.app", "cli.apply", "cli.run_apply"),
        *("cli.destroy", "cli.plan"),
    ):
        import_module(f"planapply.{name}")
    for name in (
        "planapply_ec2.provider",
        "planapply_libcloud.provider",
        "planapply_local.provider",
        "boto3",
        "libcloud.compute.drivers.ec2",
        "cryptography.x509",
    ):
        import_module(name)
    while line := sys.stdin.readline():
        print(json.dumps(_fork(json.loads(line))), flush=True)


def _fork(request: dict[str, Any]) -> dict[str, Any]:
    reading, writing = os.pipe()
    waiting, starting = os.pipe()
    out, err = (os.memfd_create(name) for name in ("out", "err"))
    pid = os.fork()
    if not pid:
        os.close(starting)
        os.read(waiting, 1)
        os._exit(_child(request, writing, out, err))
    print(json.dumps({"pid": pid}), flush=True)
    sys.stdin.readline()
    for descriptor in (waiting, starting, writing):
        os.close(descriptor)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(reading) as pipe:
        points = pipe.read()
    texts = []
    for descriptor in (out, err):
        with os.fdopen(descriptor, "rb") as file:
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return {
        "code": os.waitstatus_to_exitcode(status),
        "points": int(points or 0),
        "out": texts[0],
        "err": texts[1],
    }


def _child(request: dict[str, Any], report: int, out: int, err: int) -> int:
    from planapply.cli import main

    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    if name := os.environ.get("CRASH_IMPORTS"):
        import_module(name)
    crash_points = CrashPoints(request["die_at"])
    crash_points.arm()
    code = main(request["arguments"])
    sys.stdout.flush()
    os.write(report, str(crash_points.points).encode())
    return code


if __name__ == "__main__":
    serve()
