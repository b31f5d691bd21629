"""The settings that differ between two configs, by their paths in the spec."""

from collections.abc import Iterator, Mapping
from typing import Any

from planapply.model.lifetimes import LIFETIME_KEYS
from planapply.model.names import SCHEDULER
from planapply.model.node import NodeConfig
from planapply.model.plan import FieldChange
from planapply.model.state import NodeRecord

SPEC_NAMES = {"cls": "class"}
NESTED_PATHS = frozenset(
    {"options", "environment", "environment.env", "requirements", "create", "provider"}
)


def _flatten(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and (path in NESTED_PATHS or not path):
        for key, item in value.items():
            yield from _flatten(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list | tuple) and path == "size" and len(value) < 2:
        yield path, value[0] if value else None
    else:
        yield path, value


def changed_fields(before: NodeConfig, after: NodeConfig) -> tuple[FieldChange, ...]:
    """Return every setting that differs and requires another VM; tags and lifetimes are compared elsewhere."""
    excluded = {"tags", "group", *LIFETIME_KEYS}
    old, new = (
        dict(_flatten(config.model_dump(mode="json", exclude=excluded), ""))
        for config in (before, after)
    )
    return tuple(
        FieldChange(path=_spec_path(path), before=old.get(path), after=new.get(path))
        for path in {**old, **new}
        if old.get(path) != new.get(path)
    )


def changed_lifetimes(
    record: NodeRecord, after: NodeConfig, configs: Mapping[str, NodeConfig]
) -> tuple[FieldChange, ...]:
    """Return the lifetimes of a scheduler that differ; `configs` are those of the state.

    They require another VM if the scheduler does not have planapply's plugin.
    """
    config = configs.get(record.config)
    before = record.lifetimes or (config.lifetimes if config else None)
    if after.group != SCHEDULER or before is None:
        return ()
    return tuple(
        FieldChange(
            path=f"cluster.{key}",
            before=getattr(before, key),
            after=getattr(after, key),
            forces_replacement=record.lifetimes is None,
        )
        for key in LIFETIME_KEYS
        if getattr(before, key) != getattr(after, key)
    )


def can_keep_vm(record: NodeRecord, fields: tuple[FieldChange, ...], after: NodeConfig) -> bool:
    """Return whether the node's VM is one that `after` may have launched.

    This is so if only the list of sizes differs, and still contains the size of the VM.
    """
    return all(field.path == "size" for field in fields) and (
        not fields or record.size in after.size
    )


def is_current(record: NodeRecord, config: NodeConfig, configs: Mapping[str, NodeConfig]) -> bool:
    """Return whether a node can keep its VM with this config; `configs` are those of the state."""
    if any(field.forces_replacement for field in changed_lifetimes(record, config, configs)):
        return False
    if record.config in config.digests:
        return True
    before = configs.get(record.config)
    return before is not None and can_keep_vm(record, changed_fields(before, config), config)


def _spec_path(path: str) -> str:
    # The spec has `cpus` for `requirements.cpus`.
    head, _, rest = path.partition(".")
    return rest if head == "requirements" and rest else SPEC_NAMES.get(path, path)
