"""planapply destroy"""

from typing import Annotated

import typer

from planapply.cli.open_workspace import finishing, open_for_plan
from planapply.cli.options import (
    DEFAULT_FILE,
    AutoApprove,
    File,
    LockTimeout,
    Parallelism,
    Sets,
    State,
    Targets,
)
from planapply.ops.plan import PlanOptions


def command(
    file: File = DEFAULT_FILE,
    auto_approve: AutoApprove = False,
    target: Targets = None,
    parallelism: Parallelism = None,
    json: Annotated[bool, typer.Option("--json", help="One event a line, for programs.")] = False,
    sets: Sets = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> int:
    """Remove everything that planapply launched for this cluster; a state is all that it needs."""
    options = PlanOptions(destroy=True, targets=tuple(target or ()))
    with finishing(json):
        workspace = open_for_plan(file, sets, state, options)
    from planapply.cli.run_apply import Carrying
    from planapply.ops.apply import ApplyOptions

    how = ApplyOptions(parallel=parallelism, lock_timeout=lock_timeout)
    return Carrying(workspace, options, how, auto_approve, json).run()
