"""planapply logs"""

from typing import Annotated

import typer

from planapply import terminal
from planapply.cli.open_workspace import open_state, print_event
from planapply.cli.options import (
    DEFAULT_FILE,
    File,
    LockTimeout,
    Node,
    Overrides,
    State,
    parse_number,
)
from planapply.ops.logs import console, lock_for_read


def command(
    node: Node,
    lines: Annotated[
        int,
        typer.Option(
            "--lines", "-n", metavar="N", parser=parse_number, help="Number of lines to print."
        ),
    ] = 100,
    file: File = DEFAULT_FILE,
    overrides: Overrides = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> None:
    """Print the last lines of a node's log.

    Works for a terminated node too, if the cloud keeps its log.
    """
    workspace = open_state(file, overrides, state)
    with lock_for_read(workspace, "logs", lock_timeout, print_event):
        text = console(workspace, node, lines)
    if text:
        terminal.show_raw(text if text.endswith("\n") else f"{text}\n")
    else:
        terminal.print_message(f"{node} has printed nothing yet.")
