"""The failures of an apply, one message for all nodes that failed in the same way."""

import re
from collections.abc import Mapping

from planapply.model.diagnostics import Diagnostic, PlanapplyError
from planapply.model.names import format_names, sort_key

_COMMAND = re.compile(r"`planapply [^`\n]*`")
MAX_DETAILED = 5
"""The maximum number of kinds of failures; of more, only the names of the nodes are shown."""


def failure_diagnostics(failures: Mapping[str, PlanapplyError]) -> list[Diagnostic]:
    """Return an error for each kind of failure, in the order of the nodes."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for name in sorted(failures, key=sort_key):
        for diagnostic in failures[name].diagnostics:
            # Summaries begin with the name of the node.
            summary = diagnostic.summary.removeprefix(name)
            detail = _replace_in_commands(diagnostic.detail, name, "NODE")
            groups.setdefault((summary, detail, diagnostic.code), []).append(name)
    diagnostics = [
        Diagnostic(
            summary=f"{format_names(names)}{_with_separator(summary)}",
            detail=_replace_in_commands(detail, "NODE", names[0]) if len(names) == 1 else detail,
            code=code,
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


def _replace_in_commands(text: str, name: str, other: str) -> str:
    """Return a text with another node's name in the commands that it proposes."""
    word = re.compile(rf"(?<= ){re.escape(name)}(?=[ `])")
    return _COMMAND.sub(lambda match: word.sub(other, match[0]), text)


def _with_separator(summary: str) -> str:
    return summary if summary[:1] in (":", " ") else f": {summary}"
