"""Output: results on stdout, everything else on stderr; colors on a terminal only, with rich."""

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
"""Errors of writing to stdout, except that its reader has exited."""


def show(lines: Iterable[Line]) -> None:
    """Print a command's result."""
    _write(sys.stdout, list(lines))


def print_message(*texts: str) -> None:
    """Print messages as prose."""
    columns = width(sys.stderr)
    _write(sys.stderr, [line(part) for text in texts for part in wrap(text, columns)])


def report(diagnostics: Sequence[Diagnostic]) -> None:
    """Print errors and warnings, separated from earlier output."""
    if diagnostics:
        lines = diagnostic_lines(diagnostics, width(sys.stderr))
        _write(sys.stderr, [*lines, *([()] if sys.stderr.isatty() else [])])


def show_json(document: Any, *, indent: int | None = 2) -> None:
    """Print a command's result for programs; in ASCII, which every locale can encode."""
    _write_text(sys.stdout, json.dumps(document, indent=indent) + "\n")


def show_event(event: Event) -> None:
    """Print an event as one line of a result."""
    show_json(event.model_dump(mode="json", exclude_defaults=True), indent=None)


def show_raw(text: str) -> None:
    """Print the text of another program; on a terminal, without control characters."""
    _write_text(sys.stdout, make_printable(text) if sys.stdout.isatty() else text)


def width(stream: TextIO) -> int:
    """Return the number of columns for prose."""
    return _columns() if stream.isatty() else DEFAULT_WIDTH


def table_width() -> int | None:
    """Return the number of columns for a table on stdout; None if stdout is not a terminal."""
    return _columns() if sys.stdout.isatty() else None


def _columns() -> int:
    return max(40, shutil.get_terminal_size().columns)


def can_draw(stream: TextIO) -> bool:
    """Return whether the stream is a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") not in (None, "", "dumb")


def has_colors(stream: TextIO) -> bool:
    """Return whether to use colors: on a terminal, unless NO_COLOR is set (no-color.org)."""
    return can_draw(stream) and not os.environ.get("NO_COLOR")


def output_error() -> OSError | None:
    """Return the last error of writing to stdout, if there was one."""
    return _output_errors[-1] if _output_errors else None


def prepare_streams() -> None:
    """Replace closed streams, and characters that the locale cannot encode."""
    _output_errors.clear()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - open until the exit
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
    """Discard further output to a broken stream; the command continues."""
    if error.errno != errno.EPIPE:
        _output_errors.append(error)
    # Flushing the buffer would fail again when the interpreter exits.
    with open(os.devnull, "wb") as devnull:
        os.dup2(devnull.fileno(), stream.fileno())
