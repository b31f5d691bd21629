"""stdout for results, stderr for all else; colours on a terminal only, and rich only for those."""

import errno
import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from planapply.model.diagnostics import Diagnostic
from planapply.model.event import Event
from planapply.render.diagnostics import diagnostic_lines
from planapply.render.text import DEFAULT_WIDTH, Line, line, make_printable, to_plain_text, wrap

_output_errors: list[OSError] = []
"""Why stdout takes no more, other than that its reader has gone."""


def show(lines: Iterable[Line]) -> None:
    """A command's result."""
    _write(sys.stdout, list(lines))


def print_message(*texts: str) -> None:
    """What is said about it, as prose."""
    columns = width(sys.stderr)
    _write(sys.stderr, [line(part) for text in texts for part in wrap(text, columns)])


def report(diagnostics: Sequence[Diagnostic]) -> None:
    """Errors and warnings, apart from what stands above."""
    if diagnostics:
        lines = diagnostic_lines(diagnostics, width(sys.stderr))
        _write(sys.stderr, [*lines, *([()] if sys.stderr.isatty() else [])])


def show_json(document: Any, *, indent: int | None = 2) -> None:
    """A command's result for programs; ASCII, so that any locale will do."""
    _write_text(sys.stdout, json.dumps(document, indent=indent) + "\n")


def show_event(event: Event) -> None:
    """One line of a result that goes on."""
    show_json(event.model_dump(mode="json", exclude_defaults=True), indent=None)


def show_raw(text: str) -> None:
    """Text of another program; on a terminal without what would drive it."""
    _write_text(sys.stdout, make_printable(text) if sys.stdout.isatty() else text)


def width(stream: TextIO) -> int:
    """Columns for prose."""
    return _columns() if stream.isatty() else DEFAULT_WIDTH


def table_width() -> int | None:
    """Columns that a table on stdout has to fit into; None where there is no terminal."""
    return _columns() if sys.stdout.isatty() else None


def _columns() -> int:
    return max(40, shutil.get_terminal_size().columns)


def can_draw(stream: TextIO) -> bool:
    """Whether it is a terminal that knows more than lines."""
    return stream.isatty() and os.environ.get("TERM") not in (None, "", "dumb")


def has_colors(stream: TextIO) -> bool:
    """Unless the user wants none (no-color.org)."""
    return can_draw(stream) and not os.environ.get("NO_COLOR")


def output_error() -> OSError | None:
    """Why stdout could not be written, if it could not."""
    return _output_errors[-1] if _output_errors else None


def prepare_streams() -> None:
    """Streams that are closed take nothing, and characters that the locale lacks are replaced."""
    _output_errors.clear()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - as long as the process
        stream = getattr(sys, name)
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def _write(stream: TextIO, lines: list[Line]) -> None:
    if not lines:
        return
    if not has_colors(stream):
        _write_text(stream, to_plain_text(lines))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=True)
    text = [
        Text.assemble(*((make_printable(part), style) for part, style in spans)) for spans in lines
    ]
    try:
        console.print(Text("\n").join(text))
        stream.flush()
    except OSError as error:
        _give_up(stream, error)


def _write_text(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        _give_up(stream, error)


def _give_up(stream: TextIO, error: OSError) -> None:
    """Write no more to a stream that takes nothing; whatever the command does goes on."""
    if error.errno != errno.EPIPE:
        _output_errors.append(error)
    # What is buffered would fail again at the interpreter's end.
    with open(os.devnull, "wb") as devnull:
        os.dup2(devnull.fileno(), stream.fileno())
