"""Diagnostics as people read them: what, where (with the source line), and what to do."""

import re
from collections.abc import Iterable, Iterator

from planapply.model.diagnostics import Diagnostic, Severity, Source
from planapply.render.text import BLANK_LINE, Line, display_width, line, wrap

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.NOTE: "bold cyan"}
_TOKEN = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'|[\w-]+|\S")


def diagnostic_lines(diagnostics: Iterable[Diagnostic], width: int = 80) -> list[Line]:
    """Return one paragraph for each, with blank lines in between; `width` in columns."""
    lines: list[Line] = []
    for diagnostic in diagnostics:
        if lines:
            lines.append(BLANK_LINE)
        lines += _diagnostic_lines(diagnostic, width)
    return lines


def _diagnostic_lines(diagnostic: Diagnostic, width: int) -> Iterator[Line]:
    title = f"{diagnostic.severity.value.capitalize()}:"
    # One line: a name in it must not make lines of output that look like planapply's own.
    text = diagnostic.summary.replace("\n", "\ufffd")
    summary = wrap(f"{title} {text}", width)
    yield line((title, _STYLES[diagnostic.severity]), (summary[0].removeprefix(title), "bold"))
    for text in summary[1:]:
        yield line((text, "bold"))
    if diagnostic.source is not None:
        yield from _source_lines(diagnostic.source, width)
    for text in wrap(diagnostic.detail.rstrip(), width, "  ") if diagnostic.detail else []:
        yield line(text)


def _source_lines(source: Source, width: int) -> Iterator[Line]:
    """Yield the source line, shortened around the error if it is long, and a mark below the error."""
    margin = " " * len(str(source.line))
    yield line(f"{margin}--> ", f"{source.file}:{source.line}:{source.column}")
    if not source.text.strip():
        return
    text, start = source.text.replace("\t", " "), source.column - 1
    match = _TOKEN.match(text, start)
    end = match.end() if match else start + 1
    available = max(width, 40) - len(margin) - 5
    if display_width(text) > available:
        offset = max(0, min(start - 10, len(text) - available))
        text, start, end = (
            f"…{text[offset + 1 :]}" if offset else text,
            start - offset,
            end - offset,
        )
        if len(text) > available:
            text, end = f"{text[: available - 1]}…", min(end, available)
    mark = " " * display_width(text[:start]) + "^" * max(1, display_width(text[start:end]))
    yield line((f"{margin} |", "blue"))
    yield line((f"{source.line} | ", "blue"), text)
    yield line((f"{margin} | ", "blue"), (mark, "bold red"))
