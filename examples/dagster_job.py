"""A Dagster job whose steps run on a cluster of planapply, each as a Dask task.

Every node needs this module, dagster, and dagster-dask, and access to the storage of the Dagster instance. Start Dagster
with DASK_SCHEDULER_ADDRESS set to what `planapply output scheduler_address` prints, with
DASK_DISTRIBUTED__CLIENT__SECURITY_LOADER=planapply.security_loader, and with PLANAPPLY_STATE set to the path or URL of
the state, unless planapply.toml is in the current folder.
"""

import os

from dagster import job, op
from dagster_dask import dask_executor

# The nodes, which also import this module, have no such variable and do not need the address.
CLUSTER = {"existing": {"address": os.environ.get("DASK_SCHEDULER_ADDRESS", "")}}


@op
def numbers() -> list[int]:
    """Return what the next step needs."""
    return list(range(10))


@op
def total(numbers: list[int]) -> int:
    """Run after `numbers`, maybe on another node."""
    return sum(numbers)


@job(executor_def=dask_executor, config={"execution": {"config": {"cluster": CLUSTER}}})
def total_on_dask() -> None:
    """Compute a sum in two steps."""
    total(numbers())
