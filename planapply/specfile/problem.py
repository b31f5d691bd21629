"""A problem at one place of a spec, and the helpers to describe it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from planapply.model.diagnostics import Severity
from planapply.model.secrets import redact
from planapply.model.toml import KeyPath, format_value


class Problem(NamedTuple):
    """An error or a warning about one place of the document."""

    path: KeyPath
    summary: str
    detail: str = ""
    severity: Severity = Severity.ERROR
    is_secret: bool = False
    """Whether the value at `path` may be a credential, and must not be shown."""


def iter_node_tables(document: Mapping[str, Any]) -> Iterator[tuple[KeyPath, Mapping[str, Any]]]:
    """Yield the path and content of each table of node settings."""
    workers = document.get("workers", {})
    groups = workers.items() if isinstance(workers, Mapping) else ()
    for path, table in (
        *(((name,), document.get(name)) for name in ("defaults", "scheduler")),
        *((("workers", name), group) for name, group in groups),
    ):
        if isinstance(table, Mapping):
            yield path, table


def iter_environments(document: Mapping[str, Any]) -> Iterator[tuple[KeyPath, Mapping[str, Any]]]:
    """Yield the path and content of each environment: first that of all nodes, then those of groups."""
    for path, table in (((), document), *iter_node_tables(document)):
        if path[:1] in ((), ("workers",)) and isinstance(
            found := table.get("environment"), Mapping
        ):
            yield (*path, "environment"), found


def summarize_value(value: Any) -> str:
    """Return a value in at most 50 characters, for a message."""
    # Before it is cut: the end of a URL's user part shows that it is one.
    text = format_value(redact(value))
    return text if len(text) <= 50 else f"{text[:47]}…"


def suggest(name: str, known: Iterable[str]) -> str:
    """Return "Did you mean `…`?" if `name` is similar to a known name, else an empty string."""
    import difflib  # imported only here, since most specs have no errors

    by_lower = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f"Did you mean `{by_lower[found[0]]}`?" if found else ""
