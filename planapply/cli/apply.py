"""planapply apply"""

from typing import Annotated

import typer

from planapply.cli.open_workspace import finishing, open_for_plan, plan_options
from planapply.cli.options import (
    DEFAULT_FILE,
    AutoApprove,
    Destroy,
    File,
    LockTimeout,
    NoRefresh,
    Parallelism,
    PlanFile,
    RefreshOnly,
    Replace,
    Sets,
    State,
    Targets,
)
from planapply.model.diagnostics import PlanapplyError
from planapply.model.plan import Plan
from planapply.ops.plan import PlanOptions


def command(
    planfile: PlanFile = None,
    file: File = DEFAULT_FILE,
    auto_approve: AutoApprove = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Do not wait until what is launched has joined.")
    ] = False,
    parallelism: Parallelism = None,
    json: Annotated[bool, typer.Option("--json", help="One event a line, for programs.")] = False,
    destroy: Destroy = False,
    no_refresh: NoRefresh = False,
    refresh_only: RefreshOnly = False,
    target: Targets = None,
    replace: Replace = None,
    sets: Sets = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> int:
    """Change the cluster to what the spec says: plan, ask, launch and end VMs, await them.

    What could not be done is told, and the next apply does it. Ctrl-C stops asking for more, records
    what was done, and exits with 130.
    """
    saved = None
    with finishing(json):
        options = plan_options(destroy, no_refresh, refresh_only, target, replace)
        if planfile is not None:
            saved = _read(planfile, options)
            sets = sets or list(saved.overrides)
            options = PlanOptions(
                destroy=saved.spec_digest is None, refresh_only=saved.refresh_only
            )
        workspace = open_for_plan(file, sets, state, options)
    # After the checks: these import asyncio.
    from planapply.cli.run_apply import Carrying
    from planapply.ops.apply import ApplyOptions

    how = ApplyOptions(wait=not no_wait, parallel=parallelism, lock_timeout=lock_timeout)
    return Carrying(workspace, options, how, auto_approve, json, saved).run()


def _read(planfile: str, options: PlanOptions) -> Plan:
    if options != PlanOptions():
        raise PlanapplyError(
            "a saved plan says itself what is to be done",
            "Leave out the options of `plan`, or the plan file.",
        )
    from planapply.store.planfile import read_plan

    return read_plan(planfile)
