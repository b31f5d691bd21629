"""planapply validate"""

from planapply import terminal
from planapply.cli.options import DEFAULT_FILE, Overrides, SpecFile
from planapply.ops.validate import validate
from planapply.render.text import line


def command(file: SpecFile = DEFAULT_FILE, overrides: Overrides = None) -> None:
    """Check the spec offline: every key and value.

    For the provider local, also check that the Dask classes can be imported.
    """
    warnings = validate(file, tuple(overrides or ()))
    terminal.report(warnings)
    terminal.show([line(("Success!", "bold green"), f" The spec {file} is valid.")])
