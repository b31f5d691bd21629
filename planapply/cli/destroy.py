"""planapply destroy"""

from planapply.cli.open_workspace import open_for_plan, report_early_failure
from planapply.cli.options import (
    DEFAULT_FILE,
    AutoApprove,
    File,
    JsonEvents,
    LockTimeout,
    NoRetire,
    Overrides,
    Parallelism,
    State,
    Targets,
)
from planapply.model.plan import Mode
from planapply.ops.plan import PlanOptions


def command(
    file: File = DEFAULT_FILE,
    auto_approve: AutoApprove = False,
    target: Targets = None,
    parallelism: Parallelism = None,
    no_retire: NoRetire = False,
    json: JsonEvents = False,
    overrides: Overrides = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> int:
    """Terminate the cluster, and remove everything that planapply created for it.

    Needs only the state, not the spec.
    """
    options = PlanOptions(mode=Mode.DESTROY, targets=tuple(target or ()))
    with report_early_failure(json):
        workspace = open_for_plan(file, overrides, state, options)
    from planapply.cli.run_apply import ApplyRun
    from planapply.ops.apply import ApplyOptions

    apply_options = ApplyOptions(
        retire=not no_retire, parallel=parallelism, lock_timeout=lock_timeout
    )
    return ApplyRun(workspace, options, apply_options, auto_approve, json).run()
