"""planapply destroy"""

from planapply.cli.open_workspace import open_for_plan, plan_options, report_early_failure
from planapply.cli.options import (
    DEFAULT_FILE,
    AutoApprove,
    File,
    JsonEvents,
    LockTimeout,
    NoHooks,
    NoRetire,
    Overrides,
    Parallelism,
    State,
    Targets,
    TerminateUnknown,
)


def command(
    file: File = DEFAULT_FILE,
    auto_approve: AutoApprove = False,
    target: Targets = None,
    terminate_unknown: TerminateUnknown = False,
    parallelism: Parallelism = None,
    no_retire: NoRetire = False,
    no_hooks: NoHooks = False,
    json: JsonEvents = False,
    overrides: Overrides = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> int:
    """Terminate the cluster, and remove everything that planapply created for it.

    Needs only the state, not the spec. VMs with the cluster's tags that planapply did not launch are
    listed, and then the exit code is 1.
    """
    with report_early_failure(json):
        options = plan_options(True, False, False, target, None, terminate_unknown)
        workspace = open_for_plan(file, overrides, state, options, with_hooks=not no_hooks)
    from planapply.cli.run_apply import ApplyRun
    from planapply.ops.apply import ApplyOptions

    apply_options = ApplyOptions(
        retire=not no_retire, parallel=parallelism, lock_timeout=lock_timeout
    )
    return ApplyRun(workspace, options, apply_options, auto_approve, json).run()
