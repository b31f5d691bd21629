"""Requirements in pip's format, and their translation for uv, which accepts less.

The translation is made for a node's script, not for the spec: the configuration of a node, and with
it the digest, keeps the user's own text.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

_LINE_END = re.compile(r"\r?\n")
_COMMENT = re.compile(r"(?:^|\s)#.*")
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_EXTRAS = r"\[[^\]]*\]"
_NAMED_URL = re.compile(rf"(?P<name>{_NAME})\s*(?:{_EXTRAS}\s*)?@\s*(?P<url>\S.*)")
_EGG = re.compile(rf"egg=(?P<name>{_NAME})(?P<extras>{_EXTRAS})?")
_OPTION = re.compile(r"(?P<name>--[A-Za-z0-9-]+|-[A-Za-z])(?P<separator>=|\s+)?(?P<rest>.*)")
_CONFIG_SETTING = re.compile(
    r"\s(?:--config-settings?|-C)(?:=|\s+)"
    r"(?:\"(?P<double>[^\"]*)\"|'(?P<single>[^']*)'|(?P<bare>\S+))"
)
_UNSEPARATED = re.compile(r"(?:^|\s)-[A-Za-z][^\s=]")
_LONG = {
    "-r": "--requirement",
    "-c": "--constraint",
    "-e": "--editable",
    "-i": "--index-url",
    "-f": "--find-links",
}
VALUED = {
    *_LONG.values(),
    *("--extra-index-url", "--no-binary", "--only-binary", "--trusted-host", "--use-feature"),
}
"""pip's options of a requirements file that have a value."""
FLAGS = {"--no-index", "--pre", "--prefer-binary", "--require-hashes"}
"""pip's options of a requirements file that have none."""

_TRANSLATED = {"--editable", "--pre", "--trusted-host", "--prefer-binary", "--use-feature"}


class Line(NamedTuple):
    """One logical line of a requirements file, without its comment."""

    number: int
    """The number of its first physical line, from 1."""
    text: str


class Option(NamedTuple):
    """One option of a line, by its long name."""

    name: str
    value: str = ""
    is_valid: bool = True
    """Whether pip knows it, and it has a value exactly if it needs one."""


class Translation(NamedTuple):
    """Input of uv: the text of a requirements file, and options of `uv pip install`."""

    text: str
    options: tuple[str, ...] = ()


def logical_lines(text: str) -> list[Line]:
    """Return the lines that have content: continued lines are joined, comments removed."""
    found: list[Line] = []
    parts: list[str] = []
    first = 1
    lines = _LINE_END.split(text)
    for number, line in enumerate(lines, start=1):
        if not parts:
            first = number
        if line.endswith("\\") and not line.lstrip().startswith("#") and number < len(lines):
            parts.append(line[:-1])
            continue
        joined = _COMMENT.sub("", "".join((*parts, line))).strip()
        parts = []
        if joined:
            found.append(Line(first, joined))
    return found


def parse_options(line: str) -> list[Option]:
    """Return the options of a line that begins with one; the first invalid one ends the list."""
    return list(_iter_options(line))


def _iter_options(rest: str) -> Iterator[Option]:
    while rest:
        match = _OPTION.fullmatch(rest)
        if match is None:
            yield Option(rest.split()[0], rest, is_valid=False)
            return
        name = _LONG.get(match["name"], match["name"])
        separator, rest = (match["separator"] or "").strip(), match["rest"].strip()
        if name in FLAGS:
            yield Option(name, is_valid=not separator)
            if separator:
                return
            continue
        if name == "--editable":
            value, rest = rest, ""
        else:
            value, _, rest = rest.partition(" ")
        is_valid = name in VALUED and bool(value)
        yield Option(name, value, is_valid)
        if not is_valid:
            return
        rest = rest.strip()


def split_named_url(line: str) -> tuple[str, str] | None:
    """Return the name and the URL of `NAME @ URL`; None for another requirement."""
    match = _NAMED_URL.fullmatch(line)
    return (match["name"], match["url"]) if match else None


def remove_config_settings(line: str) -> tuple[str, list[str]]:
    """Return `line` without its `--config-settings`, and their KEY=VALUE pairs."""
    settings = [
        match["double"] or match["single"] or match["bare"] or ""
        for match in _CONFIG_SETTING.finditer(line)
    ]
    return _CONFIG_SETTING.sub("", line), settings


def translate_editable(target: str) -> str | None:
    """Return an editable requirement from the network as a plain one; None for a local folder."""
    named = split_named_url(target)
    url = named[1] if named else target
    if "://" not in url or url.startswith(("file:", "git+file:")):
        return None
    url, blank, marker = target.partition(" ")
    address, _, fragment = url.partition("#")
    egg = _EGG.search(fragment)
    if named or egg is None:
        return target
    kept = [part for part in fragment.split("&") if part and not part.startswith("egg=")]
    rest = f"#{'&'.join(kept)}" if kept else ""
    return f"{egg['name']}{egg['extras'] or ''} @ {address}{rest}{blank}{marker}"


def translate(text: str) -> Translation:
    """Return the input of uv for requirements in pip's format.

    A line that uv does not accept and that has no translation is left as it is.
    """
    options: dict[str, None] = {}
    replaced: dict[int, str] = {}
    for number, line in logical_lines(text):
        if line.startswith("-"):
            new, added = _translate_options(parse_options(line), line)
        else:
            new, settings = remove_config_settings(line)
            package = re.match(_NAME, new)
            added = [f"--config-settings-package={package[0]}:{s}" for s in settings if package]
        options |= dict.fromkeys(added)
        if new != line:
            replaced[number] = new
    return Translation(_replace(text, replaced) if replaced else text, tuple(options))


def uses_git(text: str) -> bool:
    """Return whether installing these requirements runs git."""
    return any("git+" in line.text for line in logical_lines(text))


def _translate_options(options: list[Option], line: str) -> tuple[str, list[str]]:
    """Return the lines for uv and the command-line options in place of one line of options."""
    is_plain = not any(o.name in _TRANSLATED or "," in o.value for o in options)
    if not all(o.is_valid for o in options) or (is_plain and not _UNSEPARATED.search(line)):
        return line, []
    lines, added = [], []
    for name, value, _ in options:
        if name == "--editable":
            plain = translate_editable(value)
            lines.append(plain or f"{name} {value}")
        elif name == "--pre":
            added.append("--prerelease=allow")
        elif name == "--trusted-host":
            added.append(f"--allow-insecure-host={value}")
        elif name in ("--no-binary", "--only-binary"):
            lines += [f"{name} {package}" for package in value.split(",")]
        elif name not in ("--prefer-binary", "--use-feature"):
            lines.append(f"{name} {value}".rstrip())
    return "\n".join(lines), added


def _replace(text: str, replaced: dict[int, str]) -> str:
    """Return `text` with other logical lines at these numbers."""
    lines: list[str] = []
    in_replaced = False
    for number, line in enumerate(_LINE_END.split(text), start=1):
        if number in replaced:
            in_replaced = True
            lines.append(replaced[number])
        elif not in_replaced:
            lines.append(line)
        in_replaced = in_replaced and line.endswith("\\")
    return "\n".join(lines)
