"""What is printed as JSON: one place for each promised shape."""

from collections.abc import Sequence
from typing import Any

from planapply.model.diagnostics import Diagnostic
from planapply.model.plan import Plan


def plan_document(plan: Plan) -> dict[str, Any]:
    """What `plan --json` prints."""
    return {
        "format_version": plan.format_version,
        "cluster": plan.cluster,
        "summary": plan.summary,
        "changes": [
            {
                "name": change.name,
                "action": change.action.value,
                "reason": change.reason,
                "fields": [
                    {"path": field.path, "before": field.before, "after": field.after}
                    for field in change.fields
                ],
            }
            for change in plan.changes
        ],
        "cost": None if plan.cost is None else plan.cost.model_dump(mode="json"),
        "diagnostics": diagnostics_document(plan.diagnostics),
    }


def diagnostics_document(diagnostics: Sequence[Diagnostic]) -> list[dict[str, Any]]:
    """Severity, summary, detail, and the source where one is known."""
    return [diagnostic.model_dump(mode="json") for diagnostic in diagnostics]
