"""The positions of keys in a TOML file, which tomli does not report.

Only for documents that tomli has accepted: tokens are distinguished, but not validated.
"""

import re
from collections.abc import Iterator, Mapping

import tomli

from planapply.model.toml import KeyPath

Position = tuple[int, int]
"""Line and column, from 1."""

_TOKEN = re.compile(
    r"""(?P<skip>[ \t]+|\#[^\n]*)
    |(?P<newline>\n)
    |(?P<text>\"{3}(?:[^\\]|\\.)*?\"{3,5} | '{3}.*?'{3,5} | \"(?:[^"\\]|\\.)*\" | '[^']*')
    |(?P<mark>[\[\]{},=.])
    |(?P<bare>[^\s\[\]{},=.\#"']+)""",
    re.DOTALL | re.VERBOSE,
)
_NEWLINE = "\n"


def locate(text: str) -> dict[KeyPath, Position]:
    """Return where each path of the document first appears; `()` is the start of the document."""
    return _Reader(text).positions


def find_nearest(positions: Mapping[KeyPath, Position], path: KeyPath) -> Position:
    """Return the position of `path`, or of the nearest path above it, such as its table's header."""
    above = (path[:length] for length in range(len(path), -1, -1))
    return next(positions[part] for part in above if part in positions)


def find_duplicate(text: str, line: int) -> KeyPath | None:
    """Return the path that `line` (from 1) defines although an earlier line does; None if neither.

    For a document that tomli has not accepted because of this line.
    """
    *before, last = text.split("\n")[:line]
    try:
        tomli.loads("\n".join(before))
        tomli.loads(last)
    except (ValueError, RecursionError):  # the line is wrong by itself, or not a whole statement
        return None
    earlier, here = _Reader("\n".join(before)), _Reader(last)
    path = here.table or (*earlier.table, *here.last_key)
    return path if path in earlier.positions else None


class _Reader:
    """A reader that passes over the document once, and records where each path first appears."""

    def __init__(self, text: str) -> None:
        # A line end of two characters counts as one in columns, as in tomli.
        self._tokens = _tokenize(text.replace("\r\n", "\n"))
        self.positions: dict[KeyPath, Position] = {(): (1, 1)}
        self._elements: dict[KeyPath, int] = {}
        """The number of tables in each array of tables so far."""
        self.table: KeyPath = ()
        """The table of the last header."""
        self.last_key: KeyPath = ()
        """The path of the last pair."""
        self._advance()
        while self._token:
            if self._token == _NEWLINE:
                self._advance()
            elif self._token == "[":
                self.table = self._read_header()
            else:
                self.last_key = self._read_pair(self.table)

    def _advance(self) -> None:
        self._token, self._position = next(self._tokens, ("", (0, 0)))

    def _record(self, path: KeyPath) -> None:
        self.positions.setdefault(path, self._position)

    def _skip_newlines(self) -> None:
        while self._token == _NEWLINE:
            self._advance()

    def _read_header(self) -> KeyPath:
        """Read `[a.b]` or `[[a.b]]`; a part that is an array of tables means its last element."""
        self._advance()
        is_array = self._token == "["
        if is_array:
            self._advance()
        path: KeyPath = ()
        while True:
            path = (*path, _parse_key(self._token))
            self._record(path)
            position = self._position
            self._advance()
            if self._token != ".":
                break
            self._advance()
            if path in self._elements:
                path = (*path, self._elements[path] - 1)
        if is_array:
            index = self._elements.get(path, 0)
            self._elements[path] = index + 1
            path = (*path, index)
            self.positions.setdefault(path, position)
            self._advance()
        self._advance()
        return path

    def _read_pair(self, table: KeyPath) -> KeyPath:
        path = table
        while True:
            path = (*path, _parse_key(self._token))
            self._record(path)
            self._advance()
            if self._token == "=":
                break
            self._advance()
        self._advance()
        self._read_value(path)
        return path

    def _read_value(self, path: KeyPath) -> None:
        opening = self._token
        self._advance()
        if opening not in ("[", "{"):
            while self._token not in ("", ",", "]", "}", _NEWLINE):
                self._advance()
            return
        closing = "]" if opening == "[" else "}"
        index = 0
        while True:
            self._skip_newlines()
            if self._token == closing:
                break
            if opening == "[":
                self._record((*path, index))
                self._read_value((*path, index))
                index += 1
            else:
                self._read_pair(path)
            self._skip_newlines()
            if self._token == ",":
                self._advance()
        self._advance()


def _tokenize(text: str) -> Iterator[tuple[str, Position]]:
    line, line_start = 1, 0
    for match in _TOKEN.finditer(text):
        token = match[0]
        if match.lastgroup != "skip":
            yield token, (line, match.start() - line_start + 1)
        if newlines := token.count("\n"):
            line += newlines
            line_start = match.start() + token.rindex("\n") + 1


def _parse_key(token: str) -> str:
    if token[0] not in "\"'":
        return token
    document: Mapping[str, object] = tomli.loads(f"{token} = 0")
    return next(iter(document))
