"""planapply ssh"""

import os
from typing import Annotated

import typer

from planapply.cli import terminal
from planapply.cli.open_workspace import open_state, print_event
from planapply.cli.options import DEFAULT_FILE, File, LockTimeout, Overrides, State
from planapply.model.diagnostics import PlanapplyError
from planapply.ops.access import shell
from planapply.ops.logs import lock_for_read
from planapply.render.text import line


def command(
    node: Annotated[str, typer.Argument(metavar="NODE", help="Such as scheduler, or cpu-3.")],
    user: Annotated[
        str | None,
        typer.Option("--user", "-l", metavar="NAME", help="Who logs in. Default: the image's own."),
    ] = None,
    show: Annotated[
        bool, typer.Option("--print", help="Only print the command that logs in.")
    ] = False,
    file: File = DEFAULT_FILE,
    overrides: Overrides = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> None:
    """Log in to a node."""
    workspace = open_state(file, overrides, state)
    with lock_for_read(workspace, "ssh", lock_timeout, print_event):
        arguments = list(shell(workspace, node, user))
    if show:
        import shlex

        terminal.show([line(shlex.join(arguments))])
        return
    try:
        # In place of planapply, so that the terminal and its signals are the other's alone.
        os.execvp(arguments[0], arguments)
    except FileNotFoundError:
        raise PlanapplyError(
            f"the command `{arguments[0]}` is not installed",
            "Install it, or see with --print what would be run.",
        ) from None
