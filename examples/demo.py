"""Demo of a cluster's whole life, from an empty folder until nothing is left: `make demo`.

The demo runs the commands that a user would type, and prints them.
"""

import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
PICTURE = HERE.parent / "demo.png"
SPEC = """\
[cluster]
name = "demo"

[workers.cpu]
count = 2
options = { nthreads = 1 }
"""


def run(command: str, folder: str) -> None:
    print(f"\n\033[1m$ {command}\033[0m" if sys.stdout.isatty() else f"\n$ {command}", flush=True)
    arguments = shlex.split(command)
    programs = {"planapply": [sys.executable, "-m", "planapply"], "python": [sys.executable]}
    subprocess.run([*programs[arguments[0]], *arguments[1:]], cwd=folder, check=True)


def write(path: Path, text: str) -> None:
    print(f"\n# {path.name} now contains:\n{text}", flush=True)
    path.write_text(text)


def main() -> None:
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="planapply-demo-") as folder:
        spec = Path(folder, "planapply.toml")
        try:
            run("planapply init", folder)
            write(spec, SPEC)
            run("planapply plan", folder)
            run("planapply apply --auto-approve", folder)
            script = shlex.quote(str(HERE / "mandelbrot.py"))
            run(
                f"python {script} planapply.toml {shlex.quote(os.path.relpath(PICTURE, folder))}",
                folder,
            )
            write(
                spec, SPEC.replace("count = 2", "count = 3").replace("nthreads = 1", "nthreads = 2")
            )
            run("planapply plan", folder)
            run("planapply apply --auto-approve", folder)
            run("planapply status", folder)
        finally:
            if Path(folder, "planapply.state.json").exists():
                run("planapply destroy --auto-approve", folder)
    print(f"\nDone in {time.monotonic() - start:.0f} s. The workers rendered {PICTURE}")


if __name__ == "__main__":
    main()
