"""planapply ssh"""

import os
from typing import Annotated

import typer

from planapply.cli import terminal
from planapply.cli.open_workspace import open_state, tell
from planapply.cli.options import DEFAULT_FILE, File, LockTimeout, Sets, State
from planapply.model.diagnostics import PlanapplyError
from planapply.ops.access import shell
from planapply.ops.logs import reading
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
    sets: Sets = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> None:
    """Log in to a node."""
    workspace = open_state(file, sets, state)
    with reading(workspace, "ssh", lock_timeout, tell):
        words = list(shell(workspace, node, user))
    if show:
        import shlex

        terminal.show([line(shlex.join(words))])
        return
    try:
        # In place of planapply, so that the terminal and its signals are the other's alone.
        os.execvp(words[0], words)
    except FileNotFoundError:
        raise PlanapplyError(
            f"the command `{words[0]}` is not installed",
            "Install it, or see with --print what would be run.",
        ) from None
