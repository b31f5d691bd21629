"""Classes and options that a spec names and that distributed does not have."""

import re
from collections.abc import Iterator, Mapping
from importlib import metadata, util
from pathlib import Path
from typing import Any

from planapply.model.diagnostics import Severity
from planapply.model.environment_settings import EnvironmentSettings
from planapply.model.toml import KeyPath, format_key_path
from planapply.specfile.classes import DASK_CLASSES, module_folders
from planapply.specfile.dask_options import find_fault, is_in_table, signatures
from planapply.specfile.problem import (
    Problem,
    iter_environments,
    iter_node_tables,
    suggest,
    summarize_value,
)
from planapply.specfile.requirements import pinned_dask

_DEFAULTS = {"scheduler": "distributed.Scheduler", "workers": "distributed.Nanny"}
_ROLES = {"scheduler": ("Scheduler",), "workers": ("Nanny", "Worker")}
_PRELOADS = ("preload", "preload_nanny")


def nodes_version(environment: EnvironmentSettings, is_local: bool) -> str | None:
    """Return the version of distributed that the nodes run; None if the spec does not say it."""
    if is_local:
        return metadata.version("distributed")
    text = environment.requirements or "\n".join(environment.packages or ())
    return pinned_dask(text)


def check_options(
    document: Mapping[str, Any], versions: Mapping[KeyPath, str | None]
) -> Iterator[Problem]:
    """Yield classes of distributed that run no node, and options that a class does not take.

    `versions` has each environment's version of distributed, by its path. The problems are errors if that
    version is in the table, and warnings otherwise.
    """
    for path, table in iter_node_tables(document):
        if path == ("defaults",):
            continue
        kind = str(path[0])
        version = versions.get((*path, "environment"), versions.get(("environment",)))
        severity = Severity.ERROR if is_in_table(version) else Severity.WARNING
        name = table.get("class", _DEFAULTS[kind])
        options = table.get("options", {})
        if not isinstance(name, str) or not isinstance(options, Mapping):
            continue
        module, _, role = name.rpartition(".")
        if module not in DASK_CLASSES:
            continue
        if role not in _ROLES[kind]:
            # A submodule may have more classes; what `distributed` itself exports is known.
            is_certain = role in DASK_CLASSES[module] or module in (
                "distributed",
                "dask.distributed",
            )
            expected = " or ".join(f"distributed.{each}" for each in _ROLES[kind])
            yield Problem(
                (*path, "class"),
                f"the class `{name}` is not a {kind.removesuffix('s')}",
                suggest(role, _ROLES[kind]).replace("`", f"`{module}.", 1) or f"Write {expected}.",
                severity if is_certain else Severity.WARNING,
            )
            continue
        if role not in DASK_CLASSES[module]:
            yield Problem(
                (*path, "class"),
                f"`{module}` may have no class `{role}`",
                f"Write distributed.{role}.",
                Severity.WARNING,
            )
        for option, value in options.items():
            yield from _check_option((*path, "options", option), value, version, role, severity)


def check_preloads(document: Mapping[str, Any], is_local: bool) -> Iterator[Problem]:
    """Yield preloads that the nodes cannot find.

    Nodes that run on this machine see its files; on another machine a file can only come from the
    image or from `setup`.
    """
    has_files = any("image" in table for _, table in iter_node_tables(document)) or any(
        "setup" in table or "docker" in table for _, table in iter_environments(document)
    )
    for path, table in iter_node_tables(document):
        options = table.get("options")
        if not isinstance(options, Mapping):
            continue
        for key in _PRELOADS:
            value = options.get(key, ())
            for preload in value if isinstance(value, list) else [value]:
                if isinstance(preload, str):
                    where = (*path, "options", key)
                    with module_folders(document, path):
                        yield from _check_preload(where, preload, is_local, has_files)


def _check_option(
    path: KeyPath, value: object, version: str | None, role: str, severity: Severity
) -> Iterator[Problem]:
    name = str(path[-1])
    found = signatures(version, role)
    kinds = [options[name] for options in found if name in options]
    where = f"distributed {version}" if severity is Severity.ERROR else "distributed"
    if not kinds:
        known = {each for options in found for each in options}
        yield Problem(
            path,
            f"`{role}` of {where} has no option `{name}`",
            suggest(name, known) or "Remove it.",
            severity,
        )
        return
    faults = [find_fault(kind, value) for kind in kinds]
    if "bool" in kinds:  # a string passes for true
        severity = Severity.WARNING
    if all(faults):
        yield Problem(
            path,
            f"`{format_key_path(path)}` must be {faults[0]}, not {summarize_value(value)}",
            f"`{role}` of {where} does not accept it.",
            severity,
        )


def _check_preload(
    path: KeyPath, preload: str, is_local: bool, has_files: bool
) -> Iterator[Problem]:
    name = format_key_path(path)
    if preload.startswith(("https://", "http://")) or (
        " " in preload and not preload.endswith(".py")
    ):
        return  # an address, or the text of a program
    if not preload.endswith(".py"):
        if is_local and re.fullmatch(r"\w+(\.\w+)*", preload) and not _has_module(preload):
            package = preload.partition(".")[0]
            yield Problem(
                path,
                f"`{name}` names the module `{preload}`, and there is no module `{package}`",
                "Install it, or put its folder on PYTHONPATH.",
            )
    elif not is_local:
        if not has_files:
            yield Problem(
                path,
                f"`{name}` names a file that the nodes do not have: {summarize_value(preload)}",
                "Write its address, or its text, or create it in environment.setup.",
                Severity.WARNING,
            )
    elif not Path(preload).is_absolute():
        yield Problem(
            path,
            f"`{name}` names a file by a relative path: {summarize_value(preload)}",
            "Nodes run in folders of their own: write its absolute path.",
        )
    elif not Path(preload).is_file():
        yield Problem(
            path,
            f"`{name}` names a file that does not exist: {summarize_value(preload)}",
            "Write the path of an existing file.",
        )


def _has_module(name: str) -> bool:
    """Return whether the package of a module is installed; nothing is imported."""
    return util.find_spec(name.partition(".")[0]) is not None
