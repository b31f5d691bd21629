"""The rounds of `watch`, as one line each, and as documents for programs."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from planapply.model.names import format_names
from planapply.model.plan import Change, ChangeReason
from planapply.model.watch import Round
from planapply.render.document import diagnostics_document, failed_document
from planapply.render.reasons import reason_text


def round_text(result: Round, known: Collection[str] = ()) -> str:
    """Return what a round found and did on one line; empty if there is nothing new.

    `known` are the VMs whose loss was reported before.
    """
    return "; ".join(_parts(result, known))


def _parts(result: Round, known: Collection[str]) -> Iterator[str]:
    if result.end:
        yield result.end
    if result.adopted:
        yield f"adopted {format_names(result.adopted)}"
    for reason, changes in _by_reason([c for c in result.lost if c.vm not in known]).items():
        verb = "expects to lose" if reason is ChangeReason.SPOT_NOTICE else "lost"
        yield f"{verb} {format_names([c.name for c in changes])} ({reason_text(changes)})"
    for verb, names in (
        ("removed", result.removed),
        ("launched", result.launched),
        ("joined", result.joined),
    ):
        if names:
            yield f"{verb} {format_names(names)}"
    if result.strays:
        what = "a duplicate VM" if len(result.strays) == 1 else "duplicate VMs"
        yield f"terminated {what}: {', '.join(result.strays)}"


def _by_reason(lost: Sequence[Change]) -> dict[ChangeReason, list[Change]]:
    found: dict[ChangeReason, list[Change]] = {}
    for change in lost:
        found.setdefault(change.reason, []).append(change)
    return found


def round_document(result: Round, seconds: float) -> dict[str, Any]:
    """Return the data of the event `round`."""
    outcome = "changed" if result.has_changed else "unchanged"
    document: dict[str, Any] = {
        "outcome": "incomplete" if result.is_incomplete else outcome,
        "end": result.end,
        "lost": [
            {"name": c.name, "vm": c.vm, "reason_code": c.reason.value, "reason": reason_text([c])}
            for c in result.lost
        ],
        **{key: list(getattr(result, key)) for key in _NAMES},
        "failed": failed_document(result.failures, result.launched),
        "diagnostics": diagnostics_document(
            [d for error in result.problems_by_kind().values() for d in error.diagnostics]
        ),
    }
    return {
        **{key: value for key, value in document.items() if value},
        "seconds": round(max(0.0, seconds), 3),
    }


_NAMES = ("launched", "removed", "joined", "adopted", "strays", "given_up")
