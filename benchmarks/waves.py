"""Time to replace 4 nodes in 4 waves, compared with 4 times the replacement of one node, on this machine."""

import os
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import planapply
from planapply.model.event import Event

SPEC = """
[cluster]
name = "NAME"
[workers.cpu]
count = 4
max_unavailable = 1
options = { nthreads = 1 }
[provider]
folder = "FOLDER"
"""


def time_replacement(path: Path, **options: object) -> tuple[float, dict[str, float]]:
    """Return the seconds from the first event to the last, and those that each kind of step took."""
    steps: dict[str, float] = defaultdict(float)
    began: dict[str, float] = {}
    times: list[float] = []
    ends = {"terminating": "retiring", "terminated": "terminating", "joined": "launching"}

    def on_event(event: Event) -> None:
        now = time.perf_counter()
        times.append(now)
        if event.event in ("retiring", "terminating", "launching"):
            began[event.event] = now
        if step := ends.get(event.event):
            steps[step] += now - began[step]

    planapply.apply(path, approve=True, progress=on_event, **options)  # type: ignore[arg-type]
    return times[-1] - times[0], steps


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "planapply.toml"
        text = SPEC.replace("FOLDER", f"{name}/vms").replace("NAME", f"waves-{os.getpid()}")
        path.write_text(text)
        planapply.apply(path, progress=False)
        try:
            one = min(time_replacement(path, replace=["cpu-0"])[0] for _ in range(3))
            found = []
            for threads in (2, 1, 2):
                overrides = {"workers.cpu.options.nthreads": threads}
                found.append(time_replacement(path, overrides=overrides))
        finally:
            planapply.destroy(path, progress=False)
    seconds, steps = min(found, key=lambda item: item[0])
    parts = ", ".join(f"{step} {taken:.1f} s" for step, taken in steps.items())
    print(
        f"one node {one:.1f} s, 4 waves {seconds:.1f} s ({parts}): "
        f"{seconds / (4 * one):.2f} times 4 replacements (at most 1.1)"
    )


if __name__ == "__main__":
    main()
