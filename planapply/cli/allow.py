"""planapply allow"""

from typing import Annotated

import typer

from planapply import terminal
from planapply.cli.open_workspace import open_state, print_event
from planapply.cli.options import DEFAULT_FILE, File, LockTimeout, Overrides, State
from planapply.ops.access import allow
from planapply.render.access import format_access
from planapply.render.text import line


def command(
    network: Annotated[
        str | None,
        typer.Argument(
            metavar="NETWORK",
            help="An address, or a network such as 203.0.113.0/24. Default: this machine's address.",
        ),
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove a network that was allowed before.")
    ] = False,
    file: File = DEFAULT_FILE,
    overrides: Overrides = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> None:
    """Allow another network to reach the scheduler, until the cluster is destroyed."""
    workspace = open_state(file, overrides, state)
    changed = allow(workspace, network, lock_timeout, remove=remove, on_event=print_event)
    for name, resource in changed.items():
        for access in format_access({name: resource}):
            terminal.show([line(f"The {resource.kind} {resource.id} allows {access}.")])
