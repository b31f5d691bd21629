"""planapply ssh"""

import os
from typing import Annotated

import typer

from planapply import terminal
from planapply.cli.open_workspace import open_state, print_event
from planapply.cli.options import DEFAULT_FILE, File, LockTimeout, Node, Overrides, State
from planapply.model.diagnostics import PlanapplyError
from planapply.ops.access import shell
from planapply.ops.logs import lock_for_read
from planapply.render.text import line


def command(
    node: Node,
    user: Annotated[
        str | None,
        typer.Option(
            "--user",
            "-l",
            metavar="NAME",
            help="Login user. Default: the image's default user.",
        ),
    ] = None,
    show: Annotated[
        bool, typer.Option("--print", help="Print the login command instead of running it.")
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
        # Replaces this process, so that only the login command has the terminal and its signals.
        os.execvp(arguments[0], arguments)
    except FileNotFoundError:
        raise PlanapplyError(
            f"cannot run `{arguments[0]}`: it is not installed",
            "Install it, or print the login command with --print.",
        ) from None
