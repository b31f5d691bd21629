"""The documents that are printed as JSON."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from planapply.model.diagnostics import Diagnostic, PlanapplyError
from planapply.model.event import Event
from planapply.model.names import sort_key
from planapply.model.plan import FORMAT_VERSION, Action, Change, FieldChange, Plan
from planapply.render.access import allowed_networks, open_ports
from planapply.render.field_change import redact_field
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
                "fields": _fields(change.fields),
                **_launched_vm(change, plan),
            }
            for change in plan.changes
        ],
        "waves": [list(wave) for wave in plan.waves],
        "drift": [item.model_dump(mode="json") for item in plan.drift],
        "settings": _fields(plan.recorded),
        "edited": _fields(plan.edited),
        "cost": None if plan.cost is None else plan.cost.model_dump(mode="json"),
        "diagnostics": diagnostics_document(plan.diagnostics),
    }


def _fields(fields: Sequence[FieldChange]) -> list[dict[str, Any]]:
    return [
        {"path": field.path, "before": field.before, "after": field.after}
        for field in map(redact_field, fields)
    ]


def _launched_vm(change: Change, plan: Plan) -> dict[str, Any]:
    """Return what a policy may check of a new VM, or of a created resource; empty for other changes."""
    if change.action not in (Action.CREATE, Action.REPLACE):
        return {}
    resources = list((plan.resources or {}).values())
    access = {
        "ports": sorted({port for resource in resources for port in open_ports(resource)}),
        "networks": sorted({n for resource in resources for n in allowed_networks(resource)}),
    }
    config = plan.configs.get(change.after or "")
    if config is None:
        tags = {} if change.kind == "node" else plan.tags
        return {**access, "tags": dict(tags)}
    return {
        "size": list(config.size),
        "spot": config.spot,
        "zone": list(config.zones),
        "image": config.image,
        **access,
        "tags": dict(config.tags),
    }


def diagnostics_document(diagnostics: Sequence[Diagnostic]) -> list[dict[str, Any]]:
    """Return severity, summary, detail, source, and code of each diagnostic; the source may be None."""
    return [diagnostic.model_dump(mode="json") for diagnostic in diagnostics]


def failed_document(
    failures: Mapping[str, PlanapplyError], launched: Collection[str]
) -> list[dict[str, Any]]:
    """Return each node that failed with its error; `launched` are those that have a VM."""
    return [
        {
            "name": name,
            "code": failures[name].diagnostics[0].code,
            "summary": failures[name].diagnostics[0].summary,
            "launched": name in launched,
        }
        for name in sorted(failures, key=sort_key)
    ]


def error_document(diagnostics: Sequence[Diagnostic]) -> dict[str, Any]:
    """Return the document that a command prints with `--json` in place of its result, if it fails."""
    return {
        "format_version": FORMAT_VERSION,
        "diagnostics": diagnostics_document(diagnostics),
    }


def event_document(event: Event, time: float) -> dict[str, Any]:
    """Return an event as it is printed; `time` is in seconds since the epoch."""
    at = datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")
    return {
        "format_version": FORMAT_VERSION,
        "time": at.replace("+00:00", "Z"),
        **event.model_dump(mode="json", exclude_defaults=True),
    }
