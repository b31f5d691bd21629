"""planapply providers"""

from planapply import terminal
from planapply.cli.options import DEFAULT_FILE, File
from planapply.ops.plugins import list_plugins
from planapply.render.text import Line, align_columns, line


def command(file: File = DEFAULT_FILE) -> None:
    """List the installed providers; for one that cannot be loaded, show the reason.

    The list is the same for every spec: --file is accepted, as in every command, but not read.
    """
    found = list_plugins()
    rows = align_columns([[name, p if isinstance(p, str) else p.summary] for name, p in found])
    terminal.show(_styled(row, isinstance(p, str)) for row, (_, p) in zip(rows, found, strict=True))


def _styled(row: list[str], is_broken: bool) -> Line:
    return line(row[0], (row[1], "red" if is_broken else ""))
