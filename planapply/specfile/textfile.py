"""Reading of text files that a user names."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from planapply.model.diagnostics import Diagnostic, PlanapplyError, Source
from planapply.model.secrets import mask_urls
from planapply.openfile import read_file

_MAX_BYTES = 8 << 20
_HEADER = re.compile(r"\s*\[[\w\s.-]+\]")


def format_path(path: Path) -> str:
    """Return a path in printable form, whatever bytes it contains."""
    return os.fsencode(path).decode(errors="replace")


def read_text(path: Path, what: str, if_missing: str) -> str:
    """Return the text of `path`; `what` is its name in errors, `if_missing` the advice if missing.

    Raises PlanapplyError if the file cannot be read, or is not UTF-8.
    """
    name = format_path(path)
    try:
        content = read_file(path, _MAX_BYTES + 1, allow_pipe=True)
    except FileNotFoundError:
        raise PlanapplyError(
            f"{what} {name} does not exist", if_missing, code="file_missing"
        ) from None
    except IsADirectoryError:
        raise PlanapplyError(f"{what} {name} is a folder", "Choose a file.") from None
    except ValueError:  # its text depends on the version of Python
        raise PlanapplyError(
            f"cannot read {what} {name}: a path cannot have a zero byte", "Choose another file."
        ) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise PlanapplyError(
            f"cannot read {what} {name}: {reason}", "Choose another file."
        ) from None
    if len(content) > _MAX_BYTES:
        raise PlanapplyError(f"{what} {name} is larger than 8 MiB", "Choose another file.")
    if content.startswith(b"\xef\xbb\xbf"):
        raise PlanapplyError(
            f"{what} {name} begins with a byte order mark",
            "Save it as UTF-8 without a byte order mark.",
        )
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        before = content[content.rfind(b"\n", 0, error.start) + 1 : error.start].decode()
        position = source_at(
            content.decode(errors="replace").split("\n"), name, (line, len(before) + 1)
        )
        raise PlanapplyError(
            diagnostics=(
                Diagnostic(
                    summary=f"{what} {name} is not UTF-8",
                    detail="Save it as UTF-8.",
                    source=position,
                ),
            )
        ) from None


def source_at(lines: Sequence[str], file: str, position: tuple[int, int]) -> Source:
    """Return the source at a position (line and column, from 1) of `file`, which has these lines."""
    line, column = position
    text = _printable(lines[line - 1])
    source = Source(file=file, line=line, column=column, text=text)
    # The mark under the line would be misplaced in a masked one.
    return source if mask_urls(text) == text else hide_values(source)


def hide_values(source: Source) -> Source:
    """Return the source of a line that may contain a credential, with only its key or its header."""
    key, equals, _ = source.text.partition("=")
    header = _HEADER.match(source.text)
    text = f"{key}= …" if equals else header[0] if header else "…"
    return source.model_copy(update={"text": text, "column": min(source.column, len(text))})


def _printable(line: str) -> str:
    """Return a line without control characters."""
    return "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in line.rstrip("\r"))
