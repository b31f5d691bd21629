"""A cluster's life in a notebook, without a shell, with real kernels."""

import json
import os
import re
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import snapshot

from integrations import python

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "examples" / "notebook.ipynb"
SPEC = """
[cluster]
name = "{name}"

[workers.cpu]
count = 1
options = {{ nthreads = 1 }}

[workers.burst]
min = 0
max = 2
options = {{ nthreads = 1 }}
"""
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def live(folder: Path) -> list[str]:
    """Return the processes whose command line names this folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if str(folder) in words:
            found.append(words)
    return found


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Run Python in the venv of the integrations, in a home of its own; nothing outlives the test."""
    bin = python().parent
    env = {
        "HOME": str(tmp_path),
        "PATH": f"{bin}:{os.environ['PATH']}",
        "LANG": "C.UTF-8",
    }

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [python(), *arguments],
            cwd=tmp_path,
            env=env,
            text=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )

    yield run
    if (tmp_path / "cluster.state.json").exists():
        run("-m", "planapply", "destroy", "-f", "cluster.toml", "--auto-approve")
    assert live(tmp_path) == []


def unique_name() -> str:
    return f"nb-{uuid.uuid4().hex[:8]}"


def outputs_of(notebook: dict[str, Any], code: str) -> list[dict[str, Any]]:
    """Return the outputs of the cell that contains this code."""
    [cell] = [cell for cell in notebook["cells"] if code in "".join(cell["source"])]
    outputs: list[dict[str, Any]] = cell["outputs"]
    return outputs


def text_of(output: dict[str, Any], kind: str = "text/plain") -> str:
    return "".join(output["data"][kind])


def test_example_runs_without_a_shell(run: Run, tmp_path: Path) -> None:
    name, path = unique_name(), tmp_path / "notebook.ipynb"
    path.write_text(EXAMPLE.read_text().replace('\\"notebook\\"', f'\\"{name}\\"'))
    done = run(str(HERE / "execute_notebook.py"), str(path))
    assert done.returncode == 0, done.stderr
    notebook = json.loads(path.read_text())

    [plan] = outputs_of(notebook, 'plan = planapply.plan("cluster.toml")')
    assert text_of(plan).startswith(f'planapply will change cluster "{name}" (local):')
    assert "<table>" in text_of(plan, "text/html")
    # One output, updated in place, and the report.
    progress, report = outputs_of(notebook, 'planapply.apply("cluster.toml", plan=plan)')
    assert re.sub("[0-9]+:[0-9]+", "0:00", text_of(progress)) == (
        "  scheduler   0:00   joined\n  cpu-0       0:00   joined\n  0:00  "
    )
    assert re.sub("[0-9]+ s", "5 s", text_of(report)) == (
        "Apply complete: 2 added, 0 changed, 0 destroyed (5 s)"
    )
    [result] = outputs_of(notebook, "client.map")
    assert text_of(result) == "[0, 1, 4, 9, 16]"
    [cluster] = outputs_of(notebook, "Cluster.from_spec")
    assert "1 of 1 joined" in text_of(cluster, "text/html")
    assert "application/vnd.jupyter.widget-view+json" in cluster["data"]
    [workers] = outputs_of(notebook, "cluster.scale(1)")
    assert re.sub("vm-[0-9a-f-]+", "VM", text_of(workers)) == (
        "{'cpu-0': <VMWorker cpu-0: running, VM>,\n 'burst-0': <VMWorker burst-0: running, VM>}"
    )
    [change] = outputs_of(notebook, 'change = planapply.plan("cluster.toml")')
    assert "1 -> 2   (forces replacement)" in text_of(change)
    _, report = outputs_of(notebook, "plan=change")
    assert "2 added, 0 changed, 1 destroyed" in text_of(report)
    [result] = outputs_of(notebook, "client.submit")
    assert text_of(result) == "6"
    _, report = outputs_of(notebook, "planapply.destroy")
    assert "4 destroyed" in text_of(report)


def test_an_interrupted_cell_is_recorded(run: Run, tmp_path: Path) -> None:
    """An interrupt reaches the kernel's whole process group, and must not stop the nodes."""
    (tmp_path / "cluster.toml").write_text(SPEC.format(name=unique_name()))
    done = run(str(HERE / "interrupt_kernel.py"))
    assert done.returncode == 0, done.stderr
    _, interrupted, applied, idle, computed, widget, command, destroyed, threads = map(
        json.loads, done.stdout.splitlines()
    )
    assert interrupted[-1] == ["error", "KeyboardInterrupt"]
    assert interrupted[-2][1].endswith(
        "stopped; what was done is recorded, and the next apply or destroy continues from there"
    )
    assert applied[-1][0] == "stream"
    assert applied[-1][1].startswith("Apply complete: ")
    assert idle[-1] == ["error", "KeyboardInterrupt"]
    assert computed == [["stream", "3\n"]]
    assert widget[-1][1] == snapshot(
        "['Nodes', 'Scale', 'Minimum of Dask workers', 'Maximum of Dask workers', 'Adapt', '<span style=\"color: #cf222e\">cannot scale &#x27;burst&#x27; to 9 nodes: the spec sets min = 0, max = 2</span>', 'Scaling burst to 1 node.', 'Adapting burst between 0 and 2 nodes.', (0, 2), True]\n"
    )
    assert "Error: cannot ask for approval: stdin is not a terminal" in command[-1][1]
    assert "\x1b" not in "".join(text for _, text in command)
    assert destroyed[-1][1].startswith("Destroy complete: ")
    assert threads == [["stream", "[]\n"]]
