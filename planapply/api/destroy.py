"""The destruction of a cluster that this process has open, or has launched."""

from planapply.dask.speccluster import combine_errors
from planapply.model.plan import Mode
from planapply.ops.apply import ApplyOptions, apply, unknown_error
from planapply.ops.plan import PlanOptions
from planapply.ops.workspace import Workspace


def destroy_workspace(workspace: Workspace, lock_timeout: float) -> None:
    """Destroy the cluster of a workspace; raises what could not be removed."""
    options = ApplyOptions(lock_timeout=lock_timeout)
    report = apply(workspace, lambda plan: True, PlanOptions(mode=Mode.DESTROY), options)
    if report.failures:
        raise combine_errors(report.failures)
    if left := unknown_error(report.unknown, report.plan.cluster):
        raise left
