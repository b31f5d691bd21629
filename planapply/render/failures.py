"""The failures of an apply, one message for all nodes that failed in the same way."""

from collections.abc import Mapping

from planapply.model.diagnostics import Diagnostic, PlanapplyError
from planapply.model.names import format_names, sort_key

MAX_DETAILED = 5
"""The maximum number of kinds of failures; of more, only the names of the nodes are shown."""


def failure_diagnostics(failures: Mapping[str, PlanapplyError]) -> list[Diagnostic]:
    """Return an error for each kind of failure, in the order of the nodes."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for name in sorted(failures, key=sort_key):
        for diagnostic in failures[name].diagnostics:
            # Summaries begin with the name of the node.
            summary = diagnostic.summary.removeprefix(name)
            groups.setdefault((summary, diagnostic.detail, diagnostic.code), []).append(name)
    diagnostics = [
        Diagnostic(
            summary=f"{format_names(names)}{_with_separator(summary)}", detail=detail, code=code
        )
        for (summary, detail, code), names in groups.items()
    ]
    if len(diagnostics) <= MAX_DETAILED:
        return diagnostics
    remaining = [name for names in list(groups.values())[MAX_DETAILED:] for name in names]
    return [
        *diagnostics[:MAX_DETAILED],
        Diagnostic(
            summary=f"{len(remaining)} more nodes failed: {format_names(remaining)}",
            code="more_failures",
            detail="Run `planapply status` for their status, and `planapply logs NODE` for a node's output.",
        ),
    ]


def _with_separator(summary: str) -> str:
    return summary if summary[:1] in (":", " ") else f": {summary}"
