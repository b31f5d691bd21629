"""What the tasks of airflow_dag.py do; no Airflow here, so that a test or a shell can call it too.

An Airflow task passes only small JSON values to the next one, so the tasks share the location of a state. It must be
one that every Airflow worker reaches, such as s3://bucket/folder.
"""

import re

import planapply

SPEC = "planapply.toml"


def create_cluster(run: str, folder: str) -> str:
    """Create a cluster for a run of the DAG; return the location of its state, from which the rest follows.

    A retry continues where the last attempt stopped.
    """
    name = "etl-" + re.sub("[^a-z0-9]+", "-", run.lower()).strip("-")
    state = f"{folder}/{name}.state.json"
    planapply.apply(SPEC, overrides={"cluster.name": name}, state=state, progress=False)
    return state


def compute(state: str, count: int = 10) -> int:
    """Compute on the cluster."""
    with planapply.connect(state) as client:
        return sum(client.gather(client.map(lambda number: number**2, range(count))))


def destroy_cluster(state: str) -> None:
    """Destroy the cluster; nothing is left to do for a second call."""
    planapply.destroy(state, progress=False)
