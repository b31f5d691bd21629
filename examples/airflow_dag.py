"""An Airflow DAG with a cluster for each of its runs: a set-up task applies, a tear-down task destroys.

The tear-down task also runs if a task between the two fails. Put this file and airflow_cluster.py into the folder of
the DAGs; set `ttl` in the spec, in case Airflow itself is lost.
"""

import airflow_cluster
from airflow.sdk import dag, setup, task, teardown

STATES = "s3://bucket/clusters"


@setup
def create_cluster(run_id: str) -> str:
    """Apply the spec."""
    return airflow_cluster.create_cluster(run_id, STATES)


@task
def compute(state: str) -> int:
    """Compute on the cluster."""
    return airflow_cluster.compute(state)


@teardown
def destroy_cluster(state: str) -> None:
    """Destroy the cluster."""
    airflow_cluster.destroy_cluster(state)


@dag(schedule="@daily", catchup=False)
def etl() -> None:
    """Create, compute, destroy."""
    state = create_cluster("{{ run_id }}")
    compute(state) >> destroy_cluster(state)


etl()
