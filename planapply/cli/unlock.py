"""planapply unlock"""

from typing import Annotated

import typer

from planapply import terminal
from planapply.cli.open_workspace import open_state
from planapply.cli.options import DEFAULT_FILE, File, Overrides, State
from planapply.render.text import line


def command(
    lock_id: Annotated[
        str, typer.Argument(metavar="LOCK_ID", help="Lock ID shown in the error message.")
    ],
    file: File = DEFAULT_FILE,
    overrides: Overrides = None,
    state: State = None,
) -> None:
    """Release an abandoned state lock, whose holder exited without releasing it."""
    holder = open_state(file, overrides, state).store.unlock(lock_id)
    terminal.show([line(f"Released lock {lock_id} of {holder.name}.")])
