"""Cost of one more node in a plan, compared with Terraform's `terraform_data`; start-up time; peak memory.

The benchmark runs whole commands, as a user does. Every figure includes the start-up time; the slope
does not.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SPEC = """
[cluster]
name = "bench"
[workers.cpu]
count = {}
options = {{ nthreads = 1 }}
"""
PLANAPPLY = [sys.executable, "-m", "planapply"]
REPEATS = 3


def run(command: list[str], folder: Path) -> tuple[float, float]:
    """Return the CPU seconds of a command, including its children, and its peak memory in MB."""
    environment = os.environ | {"TF_CLI_CONFIG_FILE": os.devnull}
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        assert process.stderr is not None
        sys.exit(f"{command} failed: {process.stderr.read().decode()}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def best(command: list[str], folder: Path) -> tuple[float, float]:
    """Return the minimum of a few runs: other load on the machine only adds to it."""
    runs = [run(command, folder) for _ in range(REPEATS)]
    return min(cpu for cpu, _ in runs), min(memory for _, memory in runs)


def time_planapply(nodes: int, folder: Path) -> tuple[float, float]:
    spec = folder / f"{nodes}.toml"
    spec.write_text(SPEC.format(nodes))
    return best([*PLANAPPLY, "plan", "-f", str(spec)], folder)


def time_terraform(nodes: int, folder: Path) -> tuple[float, float]:
    place = folder / f"terraform-{nodes}"
    place.mkdir()
    (place / "main.tf").write_text(
        f'resource "terraform_data" "node" {{\n  count = {nodes}\n  input = count.index\n}}\n'
    )
    run(["terraform", "init"], place)
    return best(["terraform", "plan"], place)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bare, _ = best([sys.executable, "-c", "import typer, pydantic"], folder)
        few, _ = time_planapply(4, folder)
        print(f"plan of 4 nodes: {few / bare:.2f} times the CPU of `import typer, pydantic`")
        results = {nodes: time_planapply(nodes, folder) for nodes in (1000, 10_000)}
        for nodes, (cpu, memory) in results.items():
            print(f"plan of {nodes:>6} nodes: {cpu:.2f} s CPU, {memory:.0f} MB at most")
        planapply = (results[10_000][0] - results[1000][0]) / 9000
        if not shutil.which("terraform"):
            print("terraform is not on PATH: not compared")
            return
        terraform = (time_terraform(2000, folder)[0] - time_terraform(500, folder)[0]) / 1500
        print(
            f"one more node: planapply {planapply * 1e6:.0f} us, terraform {terraform * 1e6:.0f} us: "
            f"{terraform / planapply:.0f} times as much"
        )


if __name__ == "__main__":
    main()
