"""planapply history"""

from planapply import terminal
from planapply.cli.open_workspace import open_state, print_event
from planapply.cli.options import DEFAULT_FILE, File, Json, LockTimeout, Overrides, State
from planapply.ops.history import history
from planapply.ops.logs import lock_for_read
from planapply.render.history import history_document, history_lines


def command(
    file: File = DEFAULT_FILE,
    json: Json = False,
    overrides: Overrides = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> None:
    """Show the last 100 changes of the cluster, the newest last.

    When, who and from where, the command, what it did, how long it took, the cost per hour after it, and the
    outcome. Needs only the state, and sends no request to the cloud.
    """
    workspace = open_state(file, overrides, state)
    with lock_for_read(workspace, "history", lock_timeout, print_event):
        found = history(workspace)
    if json:
        terminal.show_json(history_document(found))
    else:
        terminal.show(history_lines(found, terminal.table_width()))
