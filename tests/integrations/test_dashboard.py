"""The dashboard of a local cluster with bokeh, in a real browser."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from integrations import python
from integrations.browser import ARGUMENTS, CHROMIUM, keep_probe_here, needs_chromium

pytestmark = [pytest.mark.slow, needs_chromium]

SCRIPT = Path(__file__).with_name("look_at_dashboard.py")
SPEC = """\
[cluster]
name = "{name}"

[workers.cpu]
count = 1
options = {{ nthreads = 1, memory_limit = "500 MB" }}
"""


def test_dashboard_shows_plots(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    keep_probe_here(pytestconfig)
    (tmp_path / "planapply.toml").write_text(SPEC.format(name=f"plots-{os.getpid()}"))
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("DASK_", "XDG_"))}
    environment = {**clean, "HOME": str(tmp_path)}

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(python()), *arguments],
            cwd=tmp_path,
            env=environment,
            text=True,
            capture_output=True,
        )

    try:
        applied = run("-m", "planapply", "apply", "--auto-approve")
        assert applied.returncode == 0, applied.stderr
        assert "no plots" not in applied.stderr
        url = run("-m", "planapply", "output", "dashboard_url").stdout.strip()
        assert f"dashboard_url     = {url}\n" in applied.stdout
        assert url.startswith("http://127.0.0.1:")
        seen = run(str(SCRIPT), CHROMIUM, url, *ARGUMENTS)
        assert seen.returncode == 0, seen.stderr
        found = json.loads(seen.stdout)
        assert found["plots"] > 2
        assert found["figures"] > 2
        assert found["errors"] == found["foreign"] == []
    finally:
        destroyed = run("-m", "planapply", "destroy", "--auto-approve")
    assert destroyed.returncode == 0, destroyed.stderr
