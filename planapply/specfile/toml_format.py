"""Values and paths as they are written in TOML, and names that are nearly right."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from planapply.model.diagnostics import Severity

Path = tuple[str | int, ...]


class Problem(NamedTuple):
    """What is wrong at a place of the document."""

    path: Path
    summary: str
    detail: str = ""
    severity: Severity = Severity.ERROR
    hidden: bool = False
    """What stands there may be a credential: it must not be shown."""


_BARE = re.compile(r"[A-Za-z0-9_-]+")


def nodes(document: Mapping[str, Any]) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Each table of node settings."""
    workers = document.get("workers", {})
    groups = workers.items() if isinstance(workers, Mapping) else ()
    for path, table in (
        *(((name,), document.get(name)) for name in ("defaults", "scheduler")),
        *((("workers", name), group) for name, group in groups),
    ):
        if isinstance(table, Mapping):
            yield path, table


def dotted(path: Path) -> str:
    """`workers.cpu.zones[1]`, or `workers."a b"`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{key(part)}"
    return text.removeprefix(".")


def key(name: str) -> str:
    """A key, quoted where it has to be."""
    return name if _BARE.fullmatch(name) else _string(name)


def toml(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{key(k)} = {toml(v)}" for k, v in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml(item) for item in value)}]"
    return str(value)


def brief(value: Any) -> str:
    """A value for a message."""
    text = toml(value)
    return text if len(text) <= 50 else f"{text[:47]}…"


def near(name: str, known: Iterable[str]) -> str:
    """ "Did you mean `…`?", or nothing."""
    import difflib  # most specs are right

    by_lower = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f"Did you mean `{by_lower[found[0]]}`?" if found else ""


def _string(text: str) -> str:
    # A JSON string is a TOML one, but TOML, and a terminal, want more of it escaped.
    return "".join(
        c if c.isprintable() else f"\\U{ord(c):08x}" for c in json.dumps(text, ensure_ascii=False)
    )
