"""What a spec may not say although each key by itself is right.

It looks at the document as it was read, so that these are reported together with what is wrong by
itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from planapply.model.diagnostics import Severity
from planapply.model.spec import REQUIREMENTS
from planapply.model.toml import KeyPath, format_key_path
from planapply.specfile.problem import Problem

# Given to the processes by planapply itself; the value says what to write instead.
_RESERVED_SCHEDULER_OPTIONS = {
    "security": "Write security in [cluster].",
    "idle_timeout": "Write idle_timeout in [cluster].",
}
_RESERVED_WORKER_OPTIONS = {
    "name": "A worker is called as its node is; leave it out.",
    "security": "Write security in [cluster].",
} | dict.fromkeys(
    ("scheduler", "scheduler_ip", "scheduler_port", "scheduler_file"),
    "A worker connects to this cluster's scheduler; leave it out.",
)


def check_constraints(document: Mapping[str, Any]) -> Iterator[Problem]:
    """Keys that exclude or need each other."""
    yield from _check_size(("defaults",), _table(document, "defaults"))
    scheduler = _table(document, "scheduler")
    yield from _check_size(("scheduler",), scheduler)
    yield from _check_reserved_options(
        ("scheduler", "options"), scheduler, _RESERVED_SCHEDULER_OPTIONS
    )
    if _table(scheduler, "options").get("protocol") in ("tcp", "tls"):
        yield Problem(
            ("scheduler", "options", "protocol"),
            "`scheduler.options.protocol` follows from `cluster.security`",
            _RESERVED_SCHEDULER_OPTIONS["security"],
        )
    if {**_table(document, "defaults"), **scheduler}.get("spot", False) is not False:
        where = "scheduler" if "spot" in scheduler else "defaults"
        yield Problem(
            (where, "spot"),
            "the scheduler is a spot VM: when it is taken away, the cluster's work is lost",
            "Write spot = false in [scheduler] to keep it on demand.",
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
    yield from _check_environment(_table(document, "environment"))


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
            f"`{first}` and `{other}` of [{format_key_path(path)}] exclude each other",
            "Keep one of them.",
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
                f"`{format_key_path((*path, key))}` is set by planapply itself",
                reserved[key],
            )


def _check_count(path: KeyPath, group: Mapping[str, Any]) -> Iterator[Problem]:
    low, high = group.get("min"), group.get("max")
    if "count" in group:
        yield from _check_exclusive(path, group, ("count", "min"))
        yield from _check_exclusive(path, group, ("count", "max"))
    elif "min" in group and "max" not in group:
        yield Problem(
            (*path, "min"),
            f"[{format_key_path(path)}] has `min` and no `max`",
            "Write for example max = 100.",
        )
    elif "max" not in group:
        yield Problem(
            path,
            f"[{format_key_path(path)}] does not say how many nodes",
            "Write for example count = 2, or min = 0 and max = 10.",
        )
    elif isinstance(low, int) and isinstance(high, int) and low > high:
        yield Problem(
            (*path, "min"),
            f"`min` is more than `max` in [{format_key_path(path)}]: {low} > {high}",
            "Write min <= max.",
        )


def _check_environment(table: Mapping[str, Any]) -> Iterator[Problem]:
    path = ("environment",)
    yield from _check_exclusive(path, table, ("packages", "requirements", "docker"))
    if "python" in table and not {"packages", "requirements"} & table.keys():
        yield Problem(
            (*path, "python"),
            "`python` says in which version packages are installed, and there are none",
            "Leave it out, or write packages or requirements too.",
        )
