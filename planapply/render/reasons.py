"""The texts for the reasons of changes, and for drift."""

from collections.abc import Callable, Sequence

from planapply.model.end_reason import EndReason
from planapply.model.plan import Change, ChangeReason, DriftItem, DriftKind, FieldChange
from planapply.render.values import format_value

_TEXTS = {
    ChangeReason.NEW: "does not exist yet",
    ChangeReason.REQUEST_UNRESOLVED: "the result of an earlier launch request is unknown",
    ChangeReason.REPLACE_REQUESTED: "requested with --replace",
    ChangeReason.DESTROY_REQUESTED: "destroy requested",
    ChangeReason.SCHEDULER_REPLACED: "the scheduler is replaced",
    ChangeReason.TERMINATION_IN_PROGRESS: "termination was already in progress",
    ChangeReason.NOT_JOINED: "did not join in time",
    ChangeReason.SPOT_NOTICE: "the cloud reclaims the spot VM",
    ChangeReason.CONFIG_CHANGED: "launched with another configuration",
    ChangeReason.PLUGIN_MISSING: "an earlier version of planapply launched it: cannot change in place",
    ChangeReason.GROUP_REMOVED: "group is not in the spec",
    ChangeReason.RESOURCE_UNNEEDED: "no longer needed",
    ChangeReason.RESOURCE_GONE: "it was deleted",
    ChangeReason.UNKNOWN_NODE: "the VM's tags name no node",
    ChangeReason.UNKNOWN_VM: "has the cluster's tags, but planapply did not launch it",
}
_VM_TEXTS = {
    ChangeReason.VM_GONE: ("is gone", "are gone"),
    ChangeReason.VM_STOPPING: ("is shutting down", "are shutting down"),
    ChangeReason.VM_STOPPED: ("is stopped", "are stopped"),
}
_FACT_TEXTS: dict[ChangeReason, Callable[[Change], str]] = {
    ChangeReason.FIELDS_CHANGED: lambda change: (
        f"{', '.join(field.path for field in change.fields)} changed"
    ),
    ChangeReason.COUNT_LOWERED: lambda change: (
        f"count {change.facts['before']} -> {change.facts['after']}"
        if "before" in change.facts
        else f"count is {change.facts['after']}"
    ),
    ChangeReason.SCALED: lambda change: (
        f"{change.facts['before']} -> {change.facts['after']} nodes"
        if "before" in change.facts
        else "scaled"
    ),
    ChangeReason.MAX_LOWERED: lambda change: f"max is {change.facts['max']}",
    ChangeReason.DUPLICATE_VM: lambda change: f"duplicate VM for node {change.facts['node']}",
    ChangeReason.OTHER: lambda change: str(change.facts["text"]),
}
_DRIFT_TEXTS = {
    DriftKind.GONE: ("is gone", "are gone"),
    DriftKind.STOPPING: ("is shutting down", "are shutting down"),
    DriftKind.STOPPED: ("is stopped", "are stopped"),
    DriftKind.ADOPTED: ("was not in the state", "were not in the state"),
}
_END_TEXTS = {
    EndReason.IDLE: "idle_timeout",
    EndReason.NO_CLIENT: "no_client_timeout",
    EndReason.TTL: "ttl",
    EndReason.SHUTDOWN: "the scheduler was shut down by a client",
    EndReason.SCHEDULER_GONE: "the scheduler could not be reached",
    EndReason.RECLAIMED: "reclaimed by the cloud",
    EndReason.FAILED: "failed",
    EndReason.TERMINATED: "terminated by another user or program",
    EndReason.POWERED_OFF: "shut down from inside",
    EndReason.UNKNOWN: "unknown",
}


def end_text(reason: EndReason) -> str:
    """Return why a VM has ended, such as "reclaimed by the cloud"."""
    return _END_TEXTS[reason]


def _end_suffix(reason: object) -> str:
    """Return the reason after a colon; empty for one that is unknown, or that an edited plan file made up."""
    known = [each for each in EndReason if each.value == reason and each is not EndReason.UNKNOWN]
    return f": {_END_TEXTS[known[0]]}" if known else ""


def reason_text(changes: Sequence[Change]) -> str:
    """Return the reason of changes whose reasons are alike, such as "VM i-1 is gone: ttl"."""
    first = changes[0]
    if first.reason in _VM_TEXTS:
        text = _vm_text([change.vm for change in changes], *_VM_TEXTS[first.reason])
        return text + _end_suffix(first.facts.get("ended"))
    if first.reason in _FACT_TEXTS:
        return _FACT_TEXTS[first.reason](first)
    return _TEXTS[first.reason]


def drift_text(items: Sequence[DriftItem]) -> str:
    """Return how existing VMs differ from the state, for items of one kind."""
    kind = items[0].kind
    if kind is DriftKind.DELETED:
        return "was deleted"
    if kind is DriftKind.REGROUPED:
        field = items[0].fields[0]
        return f"is in security groups {field.before or '(none)'}, not {field.after}"
    if kind is DriftKind.CHANGED:
        return "; ".join(_changed_text(field) for field in items[0].fields)
    if kind is DriftKind.ADDRESS:
        return "has another address: " + ", ".join(
            f"{field.before or 'none'} -> {field.after or 'none'}" for field in items[0].fields
        )
    if kind is DriftKind.UNKNOWN:
        return "was not launched by planapply, but has the cluster's tags"
    if kind is DriftKind.STRAY:
        return (
            "VM is no node of the cluster" if len(items) == 1 else "VMs are no nodes of the cluster"
        )
    return _vm_text([item.vm for item in items], *_DRIFT_TEXTS[kind]) + _end_suffix(items[0].ended)


def _changed_text(field: FieldChange) -> str:
    before, after = format_value(field.before), format_value(field.after)
    return f"{field.path} is {before}, not {after}"


def _vm_text(vms: Sequence[str | None], singular: str, plural: str) -> str:
    if len(vms) > 1:
        return f"VMs {plural}"
    return f"VM {vms[0]} {singular}" if vms[0] else f"VM {singular}"
