"""Lines of styled text; the command line prints them.

Styles are rich's names (`green`, `bold red`, …), so that this module does not import rich.
"""

import re
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence

Span = tuple[str, str]
"""A text and its style, which may be empty."""
Line = tuple[Span, ...]

BLANK_LINE: Line = ()
DEFAULT_WIDTH = 100
"""Columns of prose if the output is not a terminal."""


def line(*parts: str | Span) -> Line:
    """Return one line; a part without a style is a plain string."""
    return tuple((part, "") if isinstance(part, str) else part for part in parts)


def to_plain_text(lines: Iterable[Line]) -> str:
    """Return the lines without styles and control characters, each with a line break."""
    return "".join(
        f"{''.join(make_printable(text, is_line=True) for text, _ in spans).rstrip()}\n"
        for spans in lines
    )


def make_printable(text: str, *, is_line: bool = False) -> str:
    """Return the text with each control character replaced, except tabs and line breaks.

    In one line of output, line breaks are replaced, too: a name must not make a line of its own.
    """
    if text.isprintable():
        return text
    kept = "\t" if is_line else "\t\n"
    return "".join(c if c.isprintable() or c in kept else "\ufffd" for c in text)


def display_width(text: str) -> int:
    """Return the number of a terminal's columns that the text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def pad(text: str, width: int) -> str:
    """Return the text, filled up with spaces to `width` columns."""
    return text + " " * (width - display_width(text))


def elide(text: str, width: int) -> str:
    """Return the text, or its beginning and `…`, in at most `width` columns."""
    if display_width(text) <= width:
        return text
    kept = text[: max(0, width - 1)]
    while kept and display_width(kept) > width - 1:
        kept = kept[:-1]
    return f"{kept}…"


_CODE = re.compile("`[^`]+`")
_NO_BREAK = "\ufffe"
"""A character that no text contains, for spaces at which no line may end."""


def wrap(text: str, width: int, indent: str = "") -> list[str]:
    """Break `text` into lines of at most `width` columns, if its words are short enough.

    Code in backticks stays on one line, so that it can be copied. A line that is indented already
    is a command or the output of a program, and stays as it is.
    """
    lines: list[str] = []
    for paragraph in text.expandtabs(4).split("\n"):
        if paragraph[:1].isspace() or not paragraph:
            lines.append(f"{indent}{paragraph}".rstrip())
            continue
        wrapped = textwrap.wrap(
            _CODE.sub(lambda code: code[0].replace(" ", _NO_BREAK), paragraph),
            max(width, 20),
            initial_indent=indent,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        lines += [part.replace(_NO_BREAK, " ") for part in wrapped]
    return lines


def align_columns(
    rows: Sequence[Sequence[str]], gap: int = 3, width: int | None = None
) -> list[list[str]]:
    """Return the rows with every cell but the last filled up to its column's width plus the gap.

    Omits columns that are empty in all rows, and columns at the end that do not fit into `width`.
    """
    kept = [i for i in range(max(map(len, rows), default=0)) if any(row[i] for row in rows)]
    widths = {i: max(display_width(row[i]) for row in rows) + gap for i in kept}
    while width is not None and len(kept) > 1 and sum(widths[i] for i in kept) - gap > width:
        kept.pop()
    return [[row[i] if i == kept[-1] else pad(row[i], widths[i]) for i in kept] for row in rows]
