"""planapply unlock"""

from typing import Annotated

import typer

from planapply.cli import terminal
from planapply.cli.open_workspace import open_state
from planapply.cli.options import DEFAULT_FILE, File, Overrides, State
from planapply.render.text import line


def command(
    lock_id: Annotated[
        str, typer.Argument(metavar="LOCK_ID", help="As the message says that it is locked.")
    ],
    file: File = DEFAULT_FILE,
    overrides: Overrides = None,
    state: State = None,
) -> None:
    """Break the lock on the state, where its holder is gone and could not free it."""
    holder = open_state(file, overrides, state).store.unlock(lock_id)
    terminal.show([line(f"The lock {lock_id} is broken. {holder.describe()}")])
