"""planapply logs"""

from typing import Annotated

import typer

from planapply.cli import terminal
from planapply.cli.open_workspace import open_state, tell
from planapply.cli.options import DEFAULT_FILE, File, LockTimeout, Sets, State
from planapply.ops.logs import console, reading


def command(
    node: Annotated[str, typer.Argument(metavar="NODE", help="Such as scheduler, or cpu-3.")],
    lines: Annotated[
        int, typer.Option("--lines", "-n", metavar="N", min=1, help="How many of the last lines.")
    ] = 100,
    file: File = DEFAULT_FILE,
    sets: Sets = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> None:
    """Print the last lines that a node has printed; also of one that has ended, where the cloud
    keeps them."""
    workspace = open_state(file, sets, state)
    with reading(workspace, "logs", lock_timeout, tell):
        text = console(workspace, node, lines)
    if text:
        terminal.show_raw(text if text.endswith("\n") else f"{text}\n")
    else:
        terminal.tell(f"{node} has printed nothing yet.")
