"""Which settings differ between two configs, by their paths in the spec."""

from collections.abc import Iterator, Mapping
from typing import Any

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
    """Every setting whose change means another VM; tags are compared elsewhere."""
    old, new = (
        dict(_flatten(config.model_dump(mode="json", exclude={"tags", "group"}), ""))
        for config in (before, after)
    )
    return tuple(
        FieldChange(path=_spec_path(path), before=old.get(path), after=new.get(path))
        for path in {**old, **new}
        if old.get(path) != new.get(path)
    )


def can_keep_vm(record: NodeRecord, fields: tuple[FieldChange, ...], after: NodeConfig) -> bool:
    """Whether its VM is one that `after` may have given, though `fields` differ: the list of sizes
    does, and the VM's own is on it."""
    return all(field.path == "size" for field in fields) and (
        not fields or record.size in after.size
    )


def is_current(record: NodeRecord, config: NodeConfig, configs: Mapping[str, NodeConfig]) -> bool:
    """Whether a node needs no other VM for this config; `configs` has the one it was made from."""
    if record.config == config.digest:
        return True
    before = configs.get(record.config)
    return before is not None and can_keep_vm(record, changed_fields(before, config), config)


def _spec_path(path: str) -> str:
    # `requirements.cpus` is written `cpus` in a spec.
    head, _, rest = path.partition(".")
    return rest if head == "requirements" and rest else SPEC_NAMES.get(path, path)


def changed_tags(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[FieldChange, ...]:
    """Tags that were set by us and differ, or are missing."""
    return tuple(
        FieldChange(
            path=f"tags.{key}",
            before=before.get(key),
            after=after.get(key),
            forces_replacement=False,
        )
        for key in sorted({**before, **after})
        if before.get(key) != after.get(key)
    )
