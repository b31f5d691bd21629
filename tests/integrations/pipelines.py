"""Run an example pipeline beside a spec of its own, and check that its cluster is gone afterwards."""

import os
import subprocess
from pathlib import Path

from integrations import python
from planapply.store import open_store

EXAMPLES = Path(__file__).parents[2] / "examples"


def write_spec(folder: Path, security: str = "none", **environment: str) -> None:
    """Write planapply.toml, with one node whose processes can import the examples."""
    variables = {"PYTHONPATH": str(EXAMPLES), **environment}
    lines = "\n".join(f'{name} = "{value}"' for name, value in variables.items())
    (folder / "planapply.toml").write_text(
        f'[cluster]\nname = "pipeline-{os.getpid()}"\nsecurity = "{security}"\nttl = "1 h"\n'
        f'[provider]\nfolder = "{folder / "vms"}"\n'
        f"[environment.env]\n{lines}\n"
        "[workers.cpu]\ncount = 1\noptions = { nthreads = 1 }\n"
    )


def run_script(folder: Path, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script in the folder, with a HOME of its own; the cluster must have no node when it ends."""
    (folder / "script.py").write_text(script)
    done = subprocess.run(
        [str(python()), "script.py"],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(EXAMPLES),
            **environment,
        },
        capture_output=True,
        text=True,
    )
    state = open_store(str(folder / "planapply.state.json")).read()
    assert state is not None, done.stderr
    assert state.is_empty, done.stderr
    return done
