"""Constraints between the keys of a spec, each of which is valid by itself.

They are checked on the raw document, so that violations are reported together with invalid keys.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from planapply.model.desired import PACKAGE_SOURCES
from planapply.model.diagnostics import Severity
from planapply.model.secrets import redact
from planapply.model.spec import REQUIREMENTS, WorkerGroup
from planapply.model.toml import KeyPath, format_key_path, format_value
from planapply.specfile.problem import Problem, iter_environments

# Another protocol, such as `ws`, would neither use the cluster's key nor keep to the VM's own address.
_PROTOCOL_ADVICE = "Set `security` in [cluster]: it determines the protocol."
_INSTALLED = {"packages", "requirements"}
_ADDRESS_OPTIONS = ("host", "contact_address")
# Options that planapply sets itself, each with what to write instead.
_RESERVED_SCHEDULER_OPTIONS = {
    "security": "Set `security` in [cluster].",
    "idle_timeout": "Set `idle_timeout` in [cluster].",
    "protocol": _PROTOCOL_ADVICE,
}
_RESERVED_WORKER_OPTIONS = {
    "name": "Remove it: a worker has the name of its node.",
    "security": "Set `security` in [cluster].",
    "protocol": _PROTOCOL_ADVICE,
} | dict.fromkeys(
    ("scheduler", "scheduler_ip", "scheduler_port", "scheduler_file"),
    "Remove it: a worker connects to the scheduler of this cluster.",
)


def check_constraints(document: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield a problem for each violated constraint between keys."""
    yield from _check_size(("defaults",), _table(document, "defaults"))
    scheduler = _table(document, "scheduler")
    yield from _check_size(("scheduler",), scheduler)
    yield from _check_reserved_options(
        ("scheduler", "options"), scheduler, _RESERVED_SCHEDULER_OPTIONS
    )
    if {**_table(document, "defaults"), **scheduler}.get("spot", False) is not False:
        where = "scheduler" if "spot" in scheduler else "defaults"
        yield Problem(
            (where, "spot"),
            "the scheduler is a spot VM: if the cloud reclaims it, the cluster's work is lost",
            "Set `spot = false` in [scheduler] to use an on-demand VM.",
            Severity.WARNING,
        )
    workers = _table(document, "workers")
    for name in workers:
        group = _table(workers, name)
        yield from _check_size(("workers", name), group)
        yield from _check_reserved_options(
            ("workers", name, "options"), group, _RESERVED_WORKER_OPTIONS
        )
        if isinstance(workers[name], Mapping):
            yield from _check_count(("workers", name), group)
    yield from _check_adapt(workers)
    yield from _check_environments(document)


def find_nameless_group(document: Mapping[str, Any]) -> Problem | None:
    """Return the error for settings of a group that are in [workers] itself; None if there are none."""
    workers = _table(document, "workers")
    known = {field.alias or name for name, field in WorkerGroup.model_fields.items()}
    found = [key for key in workers if key in known and not isinstance(workers[key], Mapping)]
    if not found:
        return None
    line = f"{found[0]} = {format_value(redact(workers[found[0]], found[0]))}"
    return Problem(
        ("workers", found[0]),
        f"`workers.{found[0]}` belongs to no group",
        f"Name the group: `[workers.cpu]`, then `{line}`.",
    )


def _table(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = document.get(key)
    return value if isinstance(value, Mapping) else {}


def _check_exclusive(
    path: KeyPath, table: Mapping[str, Any], keys: Sequence[str]
) -> Iterator[Problem]:
    first, *others = [key for key in keys if key in table] or [""]
    for other in others:
        yield Problem(
            (*path, other),
            f"cannot combine `{first}` and `{other}` in [{format_key_path(path)}]",
            "Remove one of them.",
        )


def _check_size(path: KeyPath, table: Mapping[str, Any]) -> Iterator[Problem]:
    if "size" in table:
        for key in REQUIREMENTS:
            yield from _check_exclusive(path, table, ("size", key))


def _check_reserved_options(
    path: KeyPath, table: Mapping[str, Any], reserved: Mapping[str, str]
) -> Iterator[Problem]:
    for key in _table(table, "options"):
        if key in reserved:
            yield Problem(
                (*path, key),
                f"cannot set `{format_key_path((*path, key))}`: planapply sets it",
                reserved[key],
            )
    yield from _check_exclusive(path, _table(table, "options"), ("host", "interface"))
    for key in _ADDRESS_OPTIONS:
        value = _table(table, "options").get(key)
        if isinstance(value, str) and "://" in value:
            yield Problem(
                (*path, key),
                f"`{format_key_path((*path, key))}` names a protocol",
                f"Write the address alone. {_PROTOCOL_ADVICE}",
            )


def _check_count(path: KeyPath, group: Mapping[str, Any]) -> Iterator[Problem]:
    low, high = group.get("min"), group.get("max")
    if "count" in group:
        yield from _check_exclusive(path, group, ("count", "min"))
        yield from _check_exclusive(path, group, ("count", "max"))
    elif "min" in group and "max" not in group:
        yield Problem(
            (*path, "min"),
            f"[{format_key_path(path)}] has `min`, but no `max`",
            "Add `max`, such as `max = 100`.",
        )
    elif "max" not in group:
        yield Problem(
            path,
            f"[{format_key_path(path)}] has no number of nodes",
            "Add `count`, such as `count = 2`; or `min` and `max`, such as `min = 0` and `max = 10`.",
        )
    elif isinstance(low, int) and isinstance(high, int) and low > high:
        yield Problem(
            (*path, "min"),
            f"minimum ({low}) is greater than maximum ({high}) in [{format_key_path(path)}]",
            "Set `min` to at most `max`.",
        )


def _check_adapt(workers: Mapping[str, Any]) -> Iterator[Problem]:
    groups = {name: _table(workers, name) for name in workers}
    adapting = [name for name, group in groups.items() if group.get("adapt", False) is not False]
    for name in adapting:
        if "count" in groups[name]:
            yield Problem(
                ("workers", name, "adapt"),
                f"cannot combine `count` and `adapt` in [{format_key_path(('workers', name))}]",
                "Give the group `min` and `max` in place of `count`, or remove `adapt`.",
            )
    for name in adapting[1:]:
        yield Problem(
            ("workers", name, "adapt"),
            f"more than one group has `adapt`: {', '.join(adapting)}",
            "Keep it in one group: the scheduler reports the load of the whole cluster.",
        )


def _check_environments(document: Mapping[str, Any]) -> Iterator[Problem]:
    inherited = _table(document, "environment")
    groups = [table for path, table in iter_environments(document) if path != ("environment",)]
    for path, table in iter_environments(document):
        yield from _check_exclusive(path, table, PACKAGE_SOURCES)
        if "python" not in table:
            continue
        # A group without packages of its own installs the inherited ones; the Python of [environment] may
        # be meant for the packages of groups.
        sources = table if not table.keys().isdisjoint(PACKAGE_SOURCES) else inherited
        heirs = groups if table is inherited else []
        installing = [sources, *(heir for heir in heirs if "python" not in heir)]
        if all(_INSTALLED.isdisjoint(found) for found in installing):
            yield Problem(
                (*path, "python"),
                f"`{format_key_path((*path, 'python'))}` has no effect without `packages` or `requirements`",
                "Add one of them, or remove `python`.",
            )
