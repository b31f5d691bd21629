"""Time of a local apply of 4 workers, compared with starting the same `dask spec` processes by hand."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from distributed import Client

SPEC = """
[cluster]
name = "bench"
[workers.cpu]
count = 4
options = { nthreads = 1 }
[provider]
folder = "FOLDER"
"""
DASK = [sys.executable, "-m", "distributed.cli.dask_spec"]
WORKERS = [f"cpu-{i}" for i in range(4)]


def time_by_hand(folder: Path) -> float:
    """Return the seconds until four nannies' workers have joined a scheduler that was started before them."""
    start = time.perf_counter()
    scheduler_file = folder / "scheduler.json"
    options = {"port": 0, "host": "127.0.0.1", "scheduler_file": str(scheduler_file)}
    specs = [[json.dumps({"cls": "distributed.Scheduler", "opts": options})]]
    processes = []
    try:
        for spec in specs:
            processes.append(subprocess.Popen([*DASK, "--spec", *spec], stderr=subprocess.DEVNULL))
        while not scheduler_file.exists():
            time.sleep(0.01)
        address = json.loads(scheduler_file.read_text())["address"]
        for name in WORKERS:
            options = {"name": name, "nthreads": 1}
            spec = json.dumps({name: {"cls": "distributed.Nanny", "opts": options}})
            processes.append(
                subprocess.Popen([*DASK, address, "--spec", spec], stderr=subprocess.DEVNULL)
            )
        with Client(address) as client:
            client.wait_for_workers(len(WORKERS))
            return time.perf_counter() - start
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait()


def time_apply(folder: Path) -> float:
    """Return the seconds of `planapply apply`, which returns when all workers have joined."""
    (folder / "planapply.toml").write_text(SPEC.replace("FOLDER", str(folder / "vms")))
    command = [sys.executable, "-m", "planapply"]
    environment = os.environ | {"NO_COLOR": "1"}
    start = time.perf_counter()
    subprocess.run(
        [*command, "apply", "--auto-approve"],
        cwd=folder,
        check=True,
        capture_output=True,
        env=environment,
    )
    seconds = time.perf_counter() - start
    subprocess.run(
        [*command, "destroy", "--auto-approve"],
        cwd=folder,
        check=True,
        capture_output=True,
        env=environment,
    )
    return seconds


def main() -> None:
    by_hand, planapply = [], []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as name:
            by_hand.append(time_by_hand(Path(name)))
            planapply.append(time_apply(Path(name)))
    print(
        f"by hand {min(by_hand):.1f} s, planapply apply {min(planapply):.1f} s: "
        f"{min(planapply) - min(by_hand):+.1f} s"
    )


if __name__ == "__main__":
    main()
