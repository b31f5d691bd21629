"""planapply output"""

from typing import Annotated

import typer

from planapply import terminal
from planapply.cli.open_workspace import read_state
from planapply.cli.options import DEFAULT_FILE, File, Json, LockTimeout, Overrides, State
from planapply.ops.output import output, outputs
from planapply.render.text import align_columns, line


def command(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Print only the value of this output.")
    ] = None,
    file: File = DEFAULT_FILE,
    json: Json = False,
    overrides: Overrides = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> None:
    """Print the cluster's outputs: scheduler_address, dashboard_url, and others."""
    found = read_state("output", file, overrides, state, lock_timeout)
    if name is not None:
        value = output(found, name)
        terminal.show_json(value) if json else terminal.show([line(value)])
        return
    values = outputs(found)
    if json:
        terminal.show_json(values)
    else:
        rows = align_columns([[key, f"= {value}"] for key, value in values.items() if value], gap=1)
        terminal.show(line("".join(row)) for row in rows)
