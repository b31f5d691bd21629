"""A Prefect flow on a cluster of its own: launched for the flow, destroyed after it, also after an error.

Run it beside a spec, planapply.toml, whose nodes have prefect and prefect-dask.
"""

from prefect import flow, task
from prefect_dask import DaskTaskRunner

CLUSTER = DaskTaskRunner(
    cluster_class="planapply.open_cluster",
    cluster_kwargs={"path": "planapply.toml", "launch": True, "destroy_on_close": True},
)


@task
def square(number: int) -> int:
    """Run on a worker of the cluster."""
    return number**2


@flow(task_runner=CLUSTER)
def sum_of_squares(count: int = 10) -> int:
    """Run here, and send the tasks to the cluster."""
    return sum(square.map(range(count)).result())


if __name__ == "__main__":  # Dask's processes may import this file
    print(sum_of_squares())
