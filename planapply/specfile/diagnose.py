"""The diagnostics of a spec's problems: each has its position in the file, or its `--set` option."""

from collections.abc import Mapping, Sequence

import tomli

from planapply.model.diagnostics import Diagnostic
from planapply.model.secrets import is_secret_path, secret_values
from planapply.model.toml import KeyPath, format_key_path
from planapply.specfile.locate import Position, find_nearest, locate
from planapply.specfile.override import Override
from planapply.specfile.problem import Problem
from planapply.specfile.textfile import hide_values, source_at


def to_diagnostics(
    problems: Sequence[Problem], text: str, file: str, applied: Sequence[Override]
) -> list[Diagnostic]:
    """Return the problems in the order of the file; those in a value of `--set` name the option."""
    positions = locate(text) if problems else {}
    lines = text.split("\n")
    where = [
        (_find_override(p.path, positions, applied), find_nearest(positions, p.path))
        for p in problems
    ]
    # Another problem on the same line, or in the same option, must not show a credential.
    secret = {
        o or position[0] for p, (o, position) in zip(problems, where, strict=True) if p.is_secret
    }
    secret |= {position[0] for path, position in positions.items() if is_secret_path(path)}
    values = secret_values(tomli.loads(text)) if problems else set()
    found = []
    for problem, (override, position) in zip(problems, where, strict=True):
        source, summary = None, problem.summary
        is_secret = (override or position[0]) in secret
        if override is None:
            source = source_at(lines, file, position)
            # The end of a text of several lines has no path of its own.
            if is_secret or any(value in source.text for value in values):
                source = hide_values(source)
        else:
            is_secret = is_secret or is_secret_path(override.path)
            option = format_key_path(override.path) if is_secret else override.option
            summary = f"--set {option}: {summary}"
        found.append(
            Diagnostic(
                severity=problem.severity, summary=summary, detail=problem.detail, source=source
            )
        )
    return sorted(found, key=lambda d: (d.source.line, d.source.column) if d.source else (0, 0))


def _find_override(
    path: KeyPath, positions: Mapping[KeyPath, Position], applied: Sequence[Override]
) -> Override | None:
    """Return the last `--set` option that set the value at `path`, if any."""
    for override in reversed(applied):
        is_inside = path[: len(override.path)] == override.path
        is_created = path not in positions and override.path[: len(path)] == path
        if is_inside or is_created:
            return override
    return None
