"""The edits of a spec since it was applied, as far as a plan's changes do not show them."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from planapply.diff.fields import SPEC_NAMES
from planapply.model.lifetimes import LIFETIME_KEYS
from planapply.model.names import SCHEDULER, split_name
from planapply.model.plan import Action, Change, FieldChange

_TABLES = frozenset({"options", "environment", "env", "create", "tags"})
"""Settings whose items are compared one by one. Not deeper: whether a value is secret shows in its key."""


def edited_settings(
    before: Mapping[str, Any], after: Mapping[str, Any], changes: Collection[Change]
) -> tuple[FieldChange, ...]:
    """Return the settings that differ between two specs, as JSON, and that no change of a node shows.

    Those are settings that change no node, such as `max`, and settings of a group without nodes.
    """
    groups = [spec.get("workers", {}).keys() for spec in (before, after)]
    old, new = (dict(_settings(spec, groups[0] & groups[1])) for spec in (before, after))
    return tuple(
        FieldChange(
            path=".".join(path),
            before=old.get(path),
            after=new.get(path),
            forces_replacement=False,
        )
        for path in {**old, **new}
        if old.get(path) != new.get(path) and not _is_shown(path, changes)
    )


def _settings(
    spec: Mapping[str, Any], common_groups: Collection[str]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each setting with its path, of a table its items; a group of one spec only is one setting."""
    tables: list[tuple[tuple[str, ...], Any]] = [
        ((name,), table) for name, table in spec.items() if name != "workers"
    ]
    for name, group in spec.get("workers", {}).items():
        if name in common_groups:
            tables.append((("workers", name), group))
        else:
            yield ("workers", name), group
    for head, table in tables:
        for key, value in table.items():
            path = (*head, key)
            if head == ("provider",) or path == ("cluster", "protect"):
                continue  # `Plan.recorded` has them
            yield from _items(path, value)


def _items(path: tuple[str, ...], value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield a setting, or each item of a table."""
    if path[-1] not in _TABLES or not isinstance(value, Mapping):
        yield path, value
        return
    for item, content in value.items():
        if path[-1] == "environment":
            yield from _items((*path, item), content)
        else:
            yield (*path, item), content


def _is_shown(path: tuple[str, ...], changes: Collection[Change]) -> bool:
    """Return whether a change of a node that has this setting shows it."""
    section, key = path[0], path[1:]
    nodes = [change for change in changes if change.kind == "node"]
    if section == "workers":
        group, key = path[1], path[2:]
        nodes = [change for change in nodes if split_name(change.name)[0] == group]
    elif section == SCHEDULER:
        nodes = [change for change in nodes if change.name == SCHEDULER]
    elif section == "environment" or key[0] in LIFETIME_KEYS:
        key = path
    if not key:
        return bool(nodes)
    if key == ("count",):
        return any(change.action in (Action.CREATE, Action.DESTROY) for change in nodes)
    name = ".".join((SPEC_NAMES.get(key[0], key[0]), *key[1:]))
    return any(_overlap(name, field.path) for change in nodes for field in change.fields)


def _overlap(one: str, two: str) -> bool:
    return f"{one}.".startswith(f"{two}.") or f"{two}.".startswith(f"{one}.")
