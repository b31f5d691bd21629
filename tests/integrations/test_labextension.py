"""JupyterLab's Dask extension, with the settings of docs/jupyterlab.md and a real cluster on this machine."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

import planapply
from integrations import python
from planapply.store import open_store

pytestmark = pytest.mark.slow

SPEC = """
[cluster]
name = "NAME"
ttl = "1 h"

[provider]
folder = "FOLDER"

[workers.cpu]
min = 1
max = 3
options = { nthreads = 1 }
"""
PAGE = Path(__file__).parents[2] / "docs" / "jupyterlab.md"

PANEL = """
import asyncio, json, sys, warnings
import dask, yaml

seen = {}

async def shown(manager, workers):
    while (models := manager.list_clusters())[0]["workers"] != workers:
        await asyncio.sleep(0.05)
    return models

async def main():
    from dask_labextension.manager import DaskClusterManager  # as the Jupyter server imports it

    async with DaskClusterManager() as manager:
        model = await manager.start_cluster()
        seen["started"], id = model, model["id"]
        seen["listed"] = await shown(manager, 1)
        await manager.scale_cluster(id, 2)
        seen["scaled"] = (await shown(manager, 2))[0]
        try:
            await manager.scale_cluster(id, 9)
        except ValueError as error:
            seen["too many"] = str(error)
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            seen["adapted"] = manager.adapt_cluster(id, 0, 9)
        seen["warnings"] = [(w.category.__name__, str(w.message)) for w in found]
        seen["got"] = manager.get_cluster(id)
        seen["closed"] = await manager.close_cluster(id)
        seen["left"] = manager.list_clusters()
    dask.config.update(dask.config.config, yaml.safe_load(sys.argv[1]))
    async with DaskClusterManager() as manager:
        model = await manager.start_cluster()
        seen["launched"] = (await shown(manager, 1))[0]
        try:
            await manager.start_cluster()
        except Exception as error:
            seen["second"] = f"{type(error).__name__}: {error}"
        await manager.close_cluster(model["id"])

asyncio.run(asyncio.wait_for(main(), 100))
print(json.dumps(seen))
"""


def run_panel(folder: Path, yaml: list[str]) -> dict[str, Any]:
    """Run the extension's manager in a process of its own, as the Jupyter server does."""
    config = folder / "config"
    config.mkdir()
    (config / "labextension.yaml").write_text(yaml[0])
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DASK_", "XDG_", "PYTHON"))}
    done = subprocess.run(
        [python(), "-W", "ignore::DeprecationWarning", "-c", PANEL, yaml[1]],
        cwd=folder,
        env={**kept, "HOME": str(folder / "home"), "DASK_CONFIG": str(config)},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert "Traceback" not in done.stderr
    return document


def test_panel_opens_scales_adapts_and_closes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cluster.toml").write_text(
        SPEC.replace("NAME", f"panel-{os.getpid()}").replace("FOLDER", str(tmp_path / "vms"))
    )
    yaml = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert len(yaml) == 2
    try:
        planapply.apply("cluster.toml", progress=False)
        seen = run_panel(tmp_path, yaml)
        state = open_store("cluster.state.json").read()
        assert state is not None
        assert state.endpoint is not None
        assert not planapply.plan("cluster.toml").changes  # closing left it running
        assert sorted(state.nodes) == ["cpu-0", "cpu-1", "scheduler"]
    finally:
        planapply.destroy("cluster.toml", progress=False)
    panel = open_store("panel.state.json").read()
    assert panel is not None
    assert panel.is_empty

    [listed] = seen["listed"]
    assert listed["id"] == seen["started"]["id"]
    assert listed["scheduler_address"] == state.endpoint.private
    assert listed["dashboard_link"].startswith("http://127.0.0.1:")
    assert (listed["workers"], listed["cores"], "adapt" in listed) == (1, 1, False)
    assert (seen["scaled"]["workers"], seen["scaled"]["cores"]) == (2, 2)
    assert seen["too many"] == "cannot scale 'cpu' to 9 nodes: the spec sets min = 1, max = 3"
    assert seen["adapted"]["adapt"] == seen["got"]["adapt"] == {"minimum": 1, "maximum": 3}
    assert seen["warnings"] == [
        [
            "UserWarning",
            "adapting 'cpu' between 1 and 3 nodes, not between 0 and 9: the spec sets min = 1, max = 3",
        ]
    ]
    assert seen["closed"]["id"] == listed["id"]
    assert seen["left"] == []
    assert seen["launched"]["workers"] == 1
    assert seen["second"] == (
        "PlanapplyError: cannot use destroy_on_close=True: the state panel.state.json has nodes already\n"
        "Pass `name=` for a cluster of this job's own, or destroy the other cluster first."
    )
