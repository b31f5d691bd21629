"""planapply status"""

from planapply import terminal
from planapply.cli.open_workspace import open_state, print_event
from planapply.cli.options import DEFAULT_FILE, File, Json, LockTimeout, Overrides, State
from planapply.ops.logs import lock_for_read
from planapply.ops.status import status
from planapply.render.status import status_lines


def command(
    file: File = DEFAULT_FILE,
    json: Json = False,
    overrides: Overrides = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> None:
    """Show the cluster's nodes, their VMs, which have joined, drift, and the cost so far.

    Waits a few seconds for the scheduler; a scheduler that does not answer is not an error.
    """
    workspace = open_state(file, overrides, state)
    with lock_for_read(workspace, "status", lock_timeout, print_event):
        found = status(workspace)
    if json:
        terminal.show_json(found.model_dump(mode="json"))
    else:
        terminal.show(status_lines(found, terminal.table_width()))
