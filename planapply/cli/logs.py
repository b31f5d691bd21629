"""planapply logs"""

from typing import Annotated

import typer

from planapply.cli import terminal
from planapply.cli.open_workspace import open_state, print_event
from planapply.cli.options import DEFAULT_FILE, File, LockTimeout, Overrides, State
from planapply.ops.logs import console, lock_for_read


def command(
    node: Annotated[str, typer.Argument(metavar="NODE", help="Such as scheduler, or cpu-3.")],
    lines: Annotated[
        int, typer.Option("--lines", "-n", metavar="N", min=1, help="How many of the last lines.")
    ] = 100,
    file: File = DEFAULT_FILE,
    overrides: Overrides = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> None:
    """Print the last lines that a node has printed; also of one that has ended, where the cloud
    keeps them."""
    workspace = open_state(file, overrides, state)
    with lock_for_read(workspace, "logs", lock_timeout, print_event):
        text = console(workspace, node, lines)
    if text:
        terminal.show_raw(text if text.endswith("\n") else f"{text}\n")
    else:
        terminal.print_message(f"{node} has printed nothing yet.")
