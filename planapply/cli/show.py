"""planapply show"""

import sys

from planapply import terminal
from planapply.cli.open_workspace import read_state
from planapply.cli.options import (
    DEFAULT_FILE,
    File,
    Json,
    LockTimeout,
    Overrides,
    PlanFile,
    State,
)
from planapply.render.document import plan_document
from planapply.render.plan import plan_lines
from planapply.render.state import state_document, state_lines
from planapply.specfile.dashboard import omit_empty_dashboard


def command(
    planfile: PlanFile = None,
    file: File = DEFAULT_FILE,
    json: Json = False,
    overrides: Overrides = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> None:
    """Show the state or a saved plan, without secrets.

    Sends no request to the cloud.
    """
    if planfile is not None:
        from planapply.store.planfile import read_plan

        plan = read_plan(planfile, "show")
        if json:
            terminal.show_json(plan_document(plan))
        else:
            terminal.show(plan_lines(plan, terminal.width(sys.stdout)))
            terminal.report(plan.diagnostics)
        return
    found = omit_empty_dashboard(read_state("show", file, overrides, state, lock_timeout))
    if json:
        terminal.show_json(state_document(found))
    else:
        terminal.show(state_lines(found, terminal.table_width()))
