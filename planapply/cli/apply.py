"""planapply apply"""

from planapply.cli.open_workspace import open_for_plan, plan_options, report_early_failure
from planapply.cli.options import (
    DEFAULT_FILE,
    AutoApprove,
    Destroy,
    JsonEvents,
    LockTimeout,
    NewCluster,
    NoHooks,
    NoRefresh,
    NoRetire,
    NoWait,
    Overrides,
    Parallelism,
    PlanFile,
    RefreshClient,
    RefreshOnly,
    Replace,
    SpecFile,
    State,
    Targets,
    TerminateUnknown,
)
from planapply.cli.saved_overrides import saved_overrides
from planapply.model.diagnostics import PlanapplyError
from planapply.model.plan import Plan
from planapply.ops.plan import PlanOptions


def command(
    planfile: PlanFile = None,
    file: SpecFile = DEFAULT_FILE,
    auto_approve: AutoApprove = False,
    no_wait: NoWait = False,
    parallelism: Parallelism = None,
    no_retire: NoRetire = False,
    no_hooks: NoHooks = False,
    json: JsonEvents = False,
    destroy: Destroy = False,
    no_refresh: NoRefresh = False,
    refresh_only: RefreshOnly = False,
    target: Targets = None,
    replace: Replace = None,
    refresh_client: RefreshClient = False,
    new_cluster: NewCluster = False,
    terminate_unknown: TerminateUnknown = False,
    overrides: Overrides = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> int:
    """Create or change the cluster to match the spec.

    Plans, asks for approval, launches and terminates VMs, and waits for the nodes to join. Failures
    are reported; run apply again to retry them. Ctrl-C sends no further requests, records what was
    done, and exits with code 130.
    """
    saved_plan = None
    with report_early_failure(json):
        options = plan_options(
            destroy, no_refresh, refresh_only, target, replace, terminate_unknown, refresh_client
        )
        if planfile is not None:
            saved_plan = _read_plan(planfile, options)
            overrides = overrides or saved_overrides(planfile, saved_plan)
            options = PlanOptions(mode=saved_plan.mode)
        workspace = open_for_plan(file, overrides, state, options, with_hooks=not no_hooks)
    # Imported after the checks, since these import asyncio.
    from planapply.cli.run_apply import ApplyRun
    from planapply.ops.apply import ApplyOptions

    apply_options = ApplyOptions(
        wait=not no_wait,
        retire=not no_retire,
        parallel=parallelism,
        lock_timeout=lock_timeout,
        new_cluster=new_cluster,
    )
    return ApplyRun(workspace, options, apply_options, auto_approve, json, saved_plan).run()


def _read_plan(planfile: str, options: PlanOptions) -> Plan:
    if options != PlanOptions():
        raise PlanapplyError(
            "cannot combine a plan file with options of `plan`: the saved plan already has them",
            "Remove the options, or the plan file.",
        )
    from planapply.store.planfile import read_plan

    return read_plan(planfile)
