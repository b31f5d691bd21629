"""What an apply could not do, with nodes that failed alike told of together."""

from collections.abc import Mapping

from planapply.model.diagnostics import Diagnostic, PlanapplyError
from planapply.model.names import sort_key, to_ranges

MOST = 5
"""Failures that are told in full; of the others there are only the names."""


def failure_diagnostics(failures: Mapping[str, PlanapplyError]) -> list[Diagnostic]:
    """An error for each kind of failure, in the order of the nodes."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name in sorted(failures, key=sort_key):
        for diagnostic in failures[name].diagnostics:
            # Summaries begin with the node's own name.
            summary = diagnostic.summary.removeprefix(name)
            groups.setdefault((summary, diagnostic.detail), []).append(name)
    found = [
        Diagnostic(summary=f"{' '.join(to_ranges(names))}{_joined(summary)}", detail=detail)
        for (summary, detail), names in groups.items()
    ]
    if len(found) <= MOST:
        return found
    others = [name for names in list(groups.values())[MOST:] for name in names]
    return [
        *found[:MOST],
        Diagnostic(
            summary=f"{len(others)} more nodes failed: {' '.join(to_ranges(others))}",
            detail="`planapply status` shows them, `planapply logs NODE` what one has printed.",
        ),
    ]


def _joined(summary: str) -> str:
    return summary if summary[:1] in (":", " ") else f": {summary}"
