"""The migration of saved plans from format 1, whose reasons for changes were texts."""

import re
from typing import Any

from planapply.model.plan import ChangeReason, Mode, Plan


def migrate_from_1(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with `mode` and reason codes in place of `refresh_only` and reason texts.

    Raises AttributeError, KeyError, TypeError, or ValueError for a document that is not a plan.
    """
    migrated = {**document, "format_version": 2}
    is_refresh_only = migrated.pop("refresh_only", False)
    if document["spec_digest"] is None:
        migrated["mode"] = Mode.DESTROY.value
    else:
        migrated["mode"] = (Mode.REFRESH_ONLY if is_refresh_only else Mode.NORMAL).value
    migrated["changes"] = [_migrate_change(change) for change in document["changes"]]
    return migrated


def with_current_digests(plan: Plan) -> Plan:
    """Return a plan whose desired configurations have the digests of this version."""
    digests = {key: config.digest for key, config in plan.configs.items()}
    if all(key == digest for key, digest in digests.items()):
        return plan
    changes = tuple(
        change.model_copy(update={"after": digests.get(change.after or "", change.after)})
        for change in plan.changes
    )
    current = {config.digest: config for config in plan.configs.values()}
    # A running node keeps the digest that it was launched with.
    return plan.model_copy(update={"changes": changes, "configs": {**current, **plan.configs}})


def _migrate_change(change: dict[str, Any]) -> dict[str, Any]:
    text = change["reason"]
    for pattern, reason in _REASONS_OF_1.items():
        if match := re.fullmatch(pattern, text):
            facts = {k: int(v) if k == "max" else v for k, v in match.groupdict().items()}
            return {**change, "reason": reason.value, "facts": facts}
    return {**change, "reason": ChangeReason.OTHER.value, "facts": {"text": text}}


_REASONS_OF_1 = {
    "not there yet": ChangeReason.NEW,
    r"its VM( \S+)? is gone": ChangeReason.VM_GONE,
    "an earlier request for it is still open(, so it may exist)?": ChangeReason.REQUEST_UNRESOLVED,
    "asked for with --replace": ChangeReason.REPLACE_REQUESTED,
    "destroy was asked for": ChangeReason.DESTROY_REQUESTED,
    "the scheduler is replaced": ChangeReason.SCHEDULER_REPLACED,
    "its end was already under way": ChangeReason.TERMINATION_IN_PROGRESS,
    r"its VM \S+ is on its way to its end": ChangeReason.VM_STOPPING,
    r"its VM \S+ is there and does not run": ChangeReason.VM_STOPPED,
    "it was made from another configuration": ChangeReason.CONFIG_CHANGED,
    ".+ changed": ChangeReason.FIELDS_CHANGED,
    r"max of its group is (?P<max>\d+)": ChangeReason.MAX_LOWERED,
    "not needed any more": ChangeReason.RESOURCE_UNNEEDED,
    r"one VM too many: (?P<node>\S+) is another one": ChangeReason.DUPLICATE_VM,
    "its tags name no node": ChangeReason.UNKNOWN_NODE,
}
"""Patterns of the texts in format 1 that have a code; "not in the spec" stood for two reasons."""
