"""Values and paths as they are written in TOML, and names that are nearly right."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from planapply.model.diagnostics import Severity

KeyPath = tuple[str | int, ...]


class Problem(NamedTuple):
    """What is wrong at a place of the document."""

    path: KeyPath
    summary: str
    detail: str = ""
    severity: Severity = Severity.ERROR
    is_secret: bool = False
    """What stands there may be a credential: it must not be shown."""


_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def iter_node_tables(document: Mapping[str, Any]) -> Iterator[tuple[KeyPath, Mapping[str, Any]]]:
    """Each table of node settings."""
    workers = document.get("workers", {})
    groups = workers.items() if isinstance(workers, Mapping) else ()
    for path, table in (
        *(((name,), document.get(name)) for name in ("defaults", "scheduler")),
        *((("workers", name), group) for name, group in groups),
    ):
        if isinstance(table, Mapping):
            yield path, table


def format_key_path(path: KeyPath) -> str:
    """`workers.cpu.zones[1]`, or `workers."a b"`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{format_key(part)}"
    return text.removeprefix(".")


def format_key(name: str) -> str:
    """A key, quoted where it has to be."""
    return name if _BARE_KEY.fullmatch(name) else _format_string(name)


def format_value(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _format_string(value)
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{format_key(k)} = {format_value(v)}" for k, v in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(format_value(item) for item in value)}]"
    return str(value)


def summarize_value(value: Any) -> str:
    """A value for a message."""
    text = format_value(value)
    return text if len(text) <= 50 else f"{text[:47]}…"


def suggest(name: str, known: Iterable[str]) -> str:
    """ "Did you mean `…`?", or nothing."""
    import difflib  # most specs are right

    by_lower = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f"Did you mean `{by_lower[found[0]]}`?" if found else ""


def _format_string(text: str) -> str:
    # A JSON string is a TOML one, but TOML, and a terminal, want more of it escaped.
    return "".join(
        c if c.isprintable() else f"\\U{ord(c):08x}" for c in json.dumps(text, ensure_ascii=False)
    )
