"""Where a key stands in a TOML file; no library that reads TOML well says it.

It reads only documents that tomli has accepted, so it need tell tokens apart, not judge them.
"""

import re
from collections.abc import Iterator, Mapping

import tomli

from planapply.specfile.toml_format import Path

Place = tuple[int, int]
"""Line and column, from 1."""

_TOKEN = re.compile(
    r"""(?P<skip>[ \t]+|\#[^\n]*)
    |(?P<newline>\n)
    |(?P<text>\"{3}(?:[^\\]|\\.)*?\"{3,5} | '{3}.*?'{3,5} | \"(?:[^"\\]|\\.)*\" | '[^']*')
    |(?P<mark>[\[\]{},=.])
    |(?P<bare>[^\s\[\]{},=.\#"']+)""",
    re.DOTALL | re.VERBOSE,
)
_END = "\n"


def locate(text: str) -> dict[Path, Place]:
    """Where each path of the document first appears; the document itself, `()`, is at its start."""
    return _Reader(text).places


def nearest(places: Mapping[Path, Place], path: Path) -> Place:
    """The place of `path`, or of what is nearest above it, such as its table's header."""
    above = (path[:length] for length in range(len(path), -1, -1))
    return next(places[part] for part in above if part in places)


class _Reader:
    """Reads the document once, noting where each path first appears."""

    def __init__(self, text: str) -> None:
        # Line ends of two characters count as one in a column too, and tomli sees them so.
        self._tokens = _tokens(text.replace("\r\n", "\n"))
        self.places: dict[Path, Place] = {(): (1, 1)}
        self._elements: dict[Path, int] = {}
        """How many tables an array of tables has so far."""
        self._next()
        table: Path = ()
        while self._token:
            if self._token == _END:
                self._next()
            elif self._token == "[":
                table = self._header()
            else:
                self._pair(table)

    def _next(self) -> None:
        self._token, self._place = next(self._tokens, ("", (0, 0)))

    def _note(self, path: Path) -> None:
        self.places.setdefault(path, self._place)

    def _skip_ends(self) -> None:
        while self._token == _END:
            self._next()

    def _header(self) -> Path:
        """`[a.b]` or `[[a.b]]`; a part that is an array of tables means its last element."""
        self._next()
        is_array = self._token == "["
        if is_array:
            self._next()
        path: Path = ()
        while True:
            path = (*path, _key(self._token))
            self._note(path)
            place = self._place
            self._next()
            if self._token != ".":
                break
            self._next()
            if path in self._elements:
                path = (*path, self._elements[path] - 1)
        if is_array:
            index = self._elements.get(path, 0)
            self._elements[path] = index + 1
            path = (*path, index)
            self.places.setdefault(path, place)
            self._next()
        self._next()
        return path

    def _pair(self, table: Path) -> None:
        path = table
        while True:
            path = (*path, _key(self._token))
            self._note(path)
            self._next()
            if self._token == "=":
                break
            self._next()
        self._next()
        self._value(path)

    def _value(self, path: Path) -> None:
        opening = self._token
        self._next()
        if opening not in ("[", "{"):
            while self._token not in ("", ",", "]", "}", _END):
                self._next()
            return
        closing = "]" if opening == "[" else "}"
        index = 0
        while True:
            self._skip_ends()
            if self._token == closing:
                break
            if opening == "[":
                self._note((*path, index))
                self._value((*path, index))
                index += 1
            else:
                self._pair(path)
            self._skip_ends()
            if self._token == ",":
                self._next()
        self._next()


def _tokens(text: str) -> Iterator[tuple[str, Place]]:
    line, line_start = 1, 0
    for match in _TOKEN.finditer(text):
        token = match[0]
        if match.lastgroup != "skip":
            yield token, (line, match.start() - line_start + 1)
        if newlines := token.count("\n"):
            line += newlines
            line_start = match.start() + token.rindex("\n") + 1


def _key(token: str) -> str:
    if token[0] not in "\"'":
        return token
    document: Mapping[str, object] = tomli.loads(f"{token} = 0")
    return next(iter(document))
