"""Output: results on stdout, everything else on stderr; colors on a terminal only, with rich."""

import errno
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TextIO

from planapply.followup import add_options
from planapply.model.diagnostics import Diagnostic
from planapply.model.event import Event
from planapply.model.secrets import environment_secrets, mask_urls, mask_values
from planapply.render.diagnostics import diagnostic_lines
from planapply.render.document import event_document
from planapply.render.text import DEFAULT_WIDTH, Line, line, make_printable, to_plain_text, wrap

_MAX_DIAGNOSTICS = 100
_DIAGNOSTIC_KEYS = {"severity", "summary", "detail"}
_output_errors: list[OSError] = []
"""Errors of writing to stdout, except that its reader has exited."""
_shown_results: list[bool] = []
_lost_readers: list[bool] = []


def show(lines: Iterable[Line]) -> None:
    """Print a command's result."""
    _write(sys.stdout, list(_with_options(lines)))


def _with_options(lines: Iterable[Line]) -> Iterator[Line]:
    """Yield the lines with the options of this command in the commands that they propose."""
    for spans in lines:
        shown = tuple((add_options(text), style) for text, style in spans)
        if shown != spans and len(shown) == 1:  # prose, which may be too long now
            yield from (line((part, shown[0][1])) for part in wrap(shown[0][0], width(sys.stdout)))
        else:
            yield shown


def print_message(*texts: str) -> None:
    """Print messages as prose."""
    columns = width(sys.stderr)
    _write(
        sys.stderr,
        [line(part) for text in texts for part in wrap(mask_urls(add_options(text)), columns)],
    )


def report(diagnostics: Sequence[Diagnostic]) -> None:
    """Print errors and warnings, separated from earlier output; of a great many, the first 100."""
    if diagnostics:
        shown = [
            d.model_copy(update={"detail": add_options(d.detail)})
            for d in diagnostics[:_MAX_DIAGNOSTICS]
        ]
        lines = diagnostic_lines(shown, width(sys.stderr))
        if (more := len(diagnostics) - _MAX_DIAGNOSTICS) > 0:
            lines += [(), line(f"… and {more:,} more.")]
        _write(sys.stderr, [*lines, *([()] if is_terminal(sys.stderr) else [])])


def show_json(document: Any) -> None:
    """Print a command's result for programs; in ASCII, which every locale can encode."""
    _shown_results.append(True)
    _write_text(sys.stdout, json.dumps(_complete_details(document), indent=2) + "\n")


def _complete_details(value: Any) -> Any:
    """Return a document whose diagnostics propose commands with the options of this command."""
    if isinstance(value, list | tuple):
        return [_complete_details(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() >= _DIAGNOSTIC_KEYS and isinstance(value["detail"], str):
        return {**value, "detail": add_options(value["detail"])}
    return {key: _complete_details(item) for key, item in value.items()}


def show_event(event: Event) -> None:
    """Print an event as one line of a result."""
    if event.event == "finished":
        _shown_results.append(True)
    document = _complete_details(event_document(event, time.time()))
    _write_text(sys.stdout, json.dumps(document) + "\n")


def has_shown_result() -> bool:
    """Return whether the command has printed its document for programs, or its last event."""
    return bool(_shown_results)


def show_raw(text: str) -> None:
    """Print the text of another program; on a terminal, without control characters."""
    _write_text(sys.stdout, make_printable(text) if is_terminal(sys.stdout) else text)


def width(stream: TextIO) -> int:
    """Return the number of columns for prose."""
    return _columns() if is_terminal(stream) else DEFAULT_WIDTH


def table_width() -> int | None:
    """Return the number of columns for a table on stdout; None if stdout is not a terminal."""
    return _columns() if is_terminal(sys.stdout) else None


def _columns() -> int:
    return max(40, shutil.get_terminal_size().columns)


def is_terminal(stream: TextIO) -> bool:
    """Return whether a person reads and writes this stream.

    A notebook's `!command` has a pseudo-terminal, but no one can answer there, and the cursor does not move.
    """
    return stream.isatty() and "JPY_PARENT_PID" not in os.environ


def can_draw(stream: TextIO) -> bool:
    """Return whether the stream is a terminal that can move its cursor."""
    return is_terminal(stream) and os.environ.get("TERM") not in (None, "", "dumb")


def has_colors(stream: TextIO) -> bool:
    """Return whether to use colors: on a terminal, unless NO_COLOR is set (no-color.org)."""
    return can_draw(stream) and not os.environ.get("NO_COLOR")


def has_reader() -> bool:
    """Return whether what is printed on stdout may still reach a reader."""
    return not _lost_readers


def output_error() -> OSError | None:
    """Return the last error of writing to stdout, if there was one."""
    return _output_errors[-1] if _output_errors else None


def prepare_streams() -> None:
    """Replace closed streams, and characters that the locale cannot encode."""
    _output_errors.clear()
    _shown_results.clear()
    _lost_readers.clear()
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
    if stream is sys.stderr:  # where an SDK's text may be quoted
        secrets = environment_secrets(os.environ)
        lines = [tuple((mask_values(t, secrets), style) for t, style in spans) for spans in lines]
    if not has_colors(stream):
        _write_text(stream, to_plain_text(lines))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=True)
    text = [
        Text.assemble(*((make_printable(part, is_line=True), style) for part, style in spans))
        for spans in lines
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
    if stream is sys.stdout:
        _lost_readers.append(True)
    if error.errno != errno.EPIPE:
        _output_errors.append(error)
    # Flushing the buffer would fail again when the interpreter exits.
    with open(os.devnull, "wb") as devnull:
        os.dup2(devnull.fileno(), stream.fileno())
