"""What an apply could not do, with nodes that failed alike told of together."""

from collections.abc import Mapping

from planapply.model.diagnostics import Diagnostic, PlanapplyError
from planapply.model.names import sort_key, to_ranges

MAX_DETAILED = 5
"""Failures that are told in full; of the others there are only the names."""


def failure_diagnostics(failures: Mapping[str, PlanapplyError]) -> list[Diagnostic]:
    """An error for each kind of failure, in the order of the nodes."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name in sorted(failures, key=sort_key):
        for diagnostic in failures[name].diagnostics:
            # Summaries begin with the node's own name.
            summary = diagnostic.summary.removeprefix(name)
            groups.setdefault((summary, diagnostic.detail), []).append(name)
    diagnostics = [
        Diagnostic(summary=f"{' '.join(to_ranges(names))}{_with_separator(summary)}", detail=detail)
        for (summary, detail), names in groups.items()
    ]
    if len(diagnostics) <= MAX_DETAILED:
        return diagnostics
    remaining = [name for names in list(groups.values())[MAX_DETAILED:] for name in names]
    return [
        *diagnostics[:MAX_DETAILED],
        Diagnostic(
            summary=f"{len(remaining)} more nodes failed: {' '.join(to_ranges(remaining))}",
            detail="`planapply status` shows them, `planapply logs NODE` what one has printed.",
        ),
    ]


def _with_separator(summary: str) -> str:
    return summary if summary[:1] in (":", " ") else f": {summary}"
