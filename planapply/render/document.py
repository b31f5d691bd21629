"""The documents that are printed as JSON."""

from collections.abc import Sequence
from typing import Any

from planapply.model.diagnostics import Diagnostic
from planapply.model.plan import Plan
from planapply.render.plan import redact_field
from planapply.render.reasons import reason_text


def plan_document(plan: Plan) -> dict[str, Any]:
    """Return the document of `plan --json`."""
    return {
        "format_version": plan.format_version,
        "cluster": plan.cluster,
        "mode": plan.mode.value,
        "summary": plan.summary,
        "changes": [
            {
                "name": change.name,
                "action": change.action.value,
                "reason_code": change.reason.value,
                "reason": reason_text([change]),
                "fields": [
                    {"path": field.path, "before": field.before, "after": field.after}
                    for field in map(redact_field, change.fields)
                ],
            }
            for change in plan.changes
        ],
        "drift": [item.model_dump(mode="json") for item in plan.drift],
        "cost": None if plan.cost is None else plan.cost.model_dump(mode="json"),
        "diagnostics": diagnostics_document(plan.diagnostics),
    }


def diagnostics_document(diagnostics: Sequence[Diagnostic]) -> list[dict[str, Any]]:
    """Return severity, summary, detail, and source of each diagnostic; the source may be None."""
    return [diagnostic.model_dump(mode="json") for diagnostic in diagnostics]
