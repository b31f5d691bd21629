"""planapply in Python: the CPU of `import planapply`, and `connect` next to a bare `distributed.Client`.

The goals: under 30 ms of CPU over a bare interpreter, and at most 1.3 times the bare client.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import distributed

import planapply
from planapply.dask.scheduler import build_security
from planapply.store import open_store

SPEC = """
[cluster]
name = "bench-python"
security = "tls"
[workers.cpu]
count = 1
options = { nthreads = 1 }
[provider]
folder = "FOLDER"
"""
STARTS, ROUNDS = 20, 15


def measure_cpu(code: str) -> float:
    """Return the CPU seconds of an interpreter that runs this code, the fewest of several starts."""

    def run() -> float:
        process = subprocess.Popen([sys.executable, "-c", code])
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return usage.ru_utime + usage.ru_stime

    return min(run() for _ in range(STARTS))


def measure(connect: Callable[[], distributed.Client]) -> float:
    """Return the seconds until a client is connected."""
    start = time.perf_counter()
    client = connect()
    seconds = time.perf_counter() - start
    client.close()
    return seconds


def main() -> None:
    bare, imported = measure_cpu("pass"), measure_cpu("import planapply")
    print(f"import planapply: {1000 * (imported - bare):.1f} ms of CPU over a bare interpreter")
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        Path("planapply.toml").write_text(SPEC.replace("FOLDER", str(Path(name, "vms"))))
        planapply.apply(progress=False)
        try:
            state = open_store("planapply.state.json").read()
            assert state is not None
            assert state.endpoint is not None
            address, security = state.endpoint.private, build_security(state.tls)

            def connect_bare() -> distributed.Client:
                return distributed.Client(address, security=security)

            (
                measure(connect_bare),
                measure(planapply.connect),
            )  # imports, and the worker's first answers
            pairs = [(measure(connect_bare), measure(planapply.connect)) for _ in range(ROUNDS)]
        finally:
            planapply.destroy(progress=False)
            os.chdir("/")
    client, connected = (median(times) for times in zip(*pairs, strict=True))
    print(
        f"distributed.Client {1000 * client:.0f} ms, planapply.connect {1000 * connected:.0f} ms: "
        f"{connected / client:.2f} times (medians of {ROUNDS})"
    )


if __name__ == "__main__":
    main()
