"""Dagster's dask_executor: it takes only the address of a cluster, and gets TLS by Dask's security loader."""

from pathlib import Path

import pytest

from integrations.pipelines import run_script, write_spec

pytestmark = [pytest.mark.slow, pytest.mark.soak]

SCRIPT = """
import os

import planapply
from dagster import DagsterInstance, execute_job, reconstructable

try:
    planapply.apply("planapply.toml", progress=False)
    with planapply.connect("planapply.toml") as client:
        os.environ["DASK_SCHEDULER_ADDRESS"] = client.scheduler.address
    from dagster_job import total_on_dask

    with (
        DagsterInstance.get() as instance,
        execute_job(reconstructable(total_on_dask), instance=instance) as result,
    ):
        print(os.environ["DASK_SCHEDULER_ADDRESS"][:6], result.output_for_node("total"))
finally:
    planapply.destroy("planapply.toml", progress=False)
"""


def test_job_runs_on_a_cluster_with_tls(tmp_path: Path) -> None:
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    write_spec(tmp_path, security="tls")
    done = run_script(
        tmp_path,
        SCRIPT,
        DAGSTER_HOME=str(home),
        DASK_DISTRIBUTED__CLIENT__SECURITY_LOADER="planapply.security_loader",
    )
    assert (done.returncode, done.stdout) == (0, "tls:// 45\n"), done.stderr
