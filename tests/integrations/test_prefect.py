"""Prefect's DaskTaskRunner: flows compute on clusters that `open_cluster` launches and destroys."""

from pathlib import Path

import pytest
from order import few

from integrations.pipelines import run_script, write_spec

pytestmark = pytest.mark.slow

# The server is a process on 127.0.0.1, which the harness stops; its data is below PREFECT_HOME.
SCRIPT = """
import distributed
import planapply
from prefect import flow, task
from prefect.testing.utilities import prefect_test_harness
from prefect_dask import DaskTaskRunner
from prefect_flow import CLUSTER, sum_of_squares

@task
def worker_name():
    return distributed.get_worker().name

@flow(task_runner=DaskTaskRunner(cluster_class=planapply.open_cluster, cluster_kwargs=CLUSTER.cluster_kwargs))
def where():
    return worker_name.submit().result()

if __name__ == "__main__":
    with prefect_test_harness(server_startup_timeout=None):
        print(FLOW())
"""
SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
}


@pytest.mark.parametrize(
    ("flow", "result"), few([("sum_of_squares", "285"), ("where", "cpu-0")], 1)
)
def test_flow_computes_on_a_cluster_of_its_own(tmp_path: Path, flow: str, result: str) -> None:
    """The first flow names `open_cluster` by a string; the second passes the function."""
    home = str(tmp_path / "prefect")
    write_spec(tmp_path, **SETTINGS, PREFECT_HOME=home)
    done = run_script(
        tmp_path,
        SCRIPT.replace("FLOW", flow),
        **SETTINGS,
        PREFECT_HOME=home,
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="600",
        TMPDIR=str(tmp_path),
    )
    assert (done.returncode, done.stdout) == (0, f"{result}\n"), done.stderr
    launch = "Creating a new Dask cluster with `planapply.api.open_cluster.open_cluster`"
    assert done.stderr.count(launch) == 1
