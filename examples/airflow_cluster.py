"""The tasks of airflow_dag.py as plain functions, which a test or a shell can call without Airflow.

An Airflow task passes only small JSON values to the next one, so the tasks share the location of a state. Every Airflow
worker must reach it, such as s3://bucket/folder.
"""

import re

import planapply

SPEC = "planapply.toml"


def create_cluster(run: str, folder: str) -> str:
    """Create a cluster for a run of the DAG; return the location of its state.

    Airflow tears down only what was set up, so destroy the cluster if not all of it can be created.
    """
    name = "etl-" + re.sub("[^a-z0-9]+", "-", run.lower()).strip("-")
    state = f"{folder}/{name}.state.json"
    try:
        planapply.apply(SPEC, overrides={"cluster.name": name}, state=state, progress=False)
    except BaseException as error:  # also when Airflow stops the task
        try:
            planapply.destroy(state, progress=False)
        except planapply.PlanapplyError as failure:
            error.add_note(str(failure))
        raise
    return state


def compute(state: str, count: int = 10) -> int:
    """Compute on the cluster."""
    with planapply.connect(state) as client:
        return sum(client.gather(client.map(lambda number: number**2, range(count))))


def destroy_cluster(state: str) -> None:
    """Destroy the cluster; if Airflow calls this again, nothing is left to do."""
    planapply.destroy(state, progress=False)
