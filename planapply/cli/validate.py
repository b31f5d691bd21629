"""planapply validate"""

from typing import Annotated

import typer

from planapply import terminal
from planapply.cli.options import DEFAULT_FILE, Overrides, SpecFile
from planapply.ops.validate import validate
from planapply.render.text import line


def command(
    file: SpecFile = DEFAULT_FILE,
    no_imports: Annotated[
        bool,
        typer.Option(
            "--no-imports",
            help="Import no class that the spec names: for a spec that you do not trust, and where "
            "the nodes' packages are not installed.",
        ),
    ] = False,
    overrides: Overrides = None,
) -> None:
    """Check the spec offline: every key and value.

    For the provider local, also check that the Dask classes can be imported.
    """
    warnings = validate(file, tuple(overrides or ()), import_classes=not no_imports)
    terminal.report(warnings)
    terminal.show([line(("Success!", "bold green"), f" The spec {file} is valid.")])
