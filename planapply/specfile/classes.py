"""Checks of the Dask classes that a spec names."""

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from planapply.model.toml import KeyPath
from planapply.specfile.problem import Problem, iter_environments, iter_node_tables, suggest

# The classes of distributed itself, which takes longer to import than a whole plan takes.
_ROLES = ("Scheduler", "Worker", "Nanny")
DASK_CLASSES = {
    "distributed": _ROLES,
    "dask.distributed": _ROLES,
    "distributed.scheduler": ("Scheduler",),
    "distributed.worker": ("Worker",),
    "distributed.nanny": ("Nanny",),
}
_OTHER_CLASSES = ("dask_cuda.CUDAWorker",)


@contextmanager
def module_folders(document: Mapping[str, Any], path: KeyPath) -> Iterator[None]:
    """Add the folders of PYTHONPATH of the nodes at `path` to Python's; accept a document with any errors.

    Modules imported from there are forgotten afterwards: the nodes of another group may not have them.
    """
    environments = dict(iter_environments(document))
    variables: dict[str, Any] = {}
    for where in (("environment",), (*path, "environment")):
        found = environments.get(where, {}).get("env")
        variables |= found if isinstance(found, Mapping) else {}
    value = variables.get("PYTHONPATH")
    names = value.split(":") if isinstance(value, str) else []
    folders = [name for name in names if Path(name).is_absolute()]
    path_before, modules_before = list(sys.path), set(sys.modules)
    sys.path[:0] = folders
    try:
        yield
    finally:
        sys.path[:] = path_before
        for name in set(sys.modules) - modules_before if folders else ():
            file = getattr(sys.modules[name], "__file__", None) or ""
            if any(Path(file).is_relative_to(folder) for folder in folders):
                del sys.modules[name]


def check_imports(document: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield an error for each class that cannot be imported, or that no node of its role can run.

    For providers whose nodes run this Python. Imports the module of each class that is not
    distributed's own.
    """
    for path, name in _classes(document):
        with module_folders(document, path[:-1]):
            problem = _check_import(name, str(path[0]).removesuffix("s"))
        if problem:
            yield Problem(path, *problem)


def suggest_class(name: str) -> str:
    """Return "Did you mean …?" with the well-known class that is similar to `name`, if any."""
    known = [f"{module}.{cls}" for module, names in DASK_CLASSES.items() for cls in names]
    hint = suggest(name, [*known, *_OTHER_CLASSES])
    if not hint and "." not in name and (tail := suggest(name, _ROLES)):
        hint = tail.replace("`", "`distributed.", 1)
    return hint


def _classes(document: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """Yield the path and name of each class; accept a document with any errors."""
    for path, table in iter_node_tables(document):
        if path != ("defaults",) and isinstance(name := table.get("class"), str):
            yield (*path, "class"), name


def _check_import(name: str, role: str) -> tuple[str, str] | None:
    """Return what prevents a node of this role (scheduler or worker) from running the class `name`."""
    module_name, _, class_name = name.rpartition(".")
    if class_name in DASK_CLASSES.get(module_name, ()):
        return None
    did_you_mean = suggest_class(name)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        where = "" if missing == module_name else f", which `{module_name}` needs"
        return (
            f"cannot import the class `{name}`: there is no module `{missing}`{where}",
            f"{did_you_mean} Install the module, or add its folder to PYTHONPATH.".strip(),
        )
    except (Exception, SystemExit) as error:  # an import may fail in any way
        return (
            f"cannot import the class `{name}`: {type(error).__name__}: {error}",
            f"Fix the module: `import {module_name}` fails in Python too.",
        )
    found = getattr(module, class_name, None)
    if isinstance(found, type):
        return _check_role(found, name, role)
    what = (
        f"`{module_name}` has no class `{class_name}`"
        if found is None
        else f"it is not a class, but of type `{type(found).__name__}`"
    )
    classes = [
        f"{module_name}.{name}"
        for name, value in vars(module).items()
        if isinstance(value, type) and not name.startswith("_")
    ]
    did_you_mean = did_you_mean or suggest(name, classes)
    return (
        f"cannot import the class `{name}`: {what}",
        did_you_mean or "Write the module and name of a class.",
    )


def _check_role(cls: type, name: str, role: str) -> tuple[str, str] | None:
    """Return an error unless `cls` is a server, and no class of distributed for the other role."""
    own = (
        "distributed.Scheduler"
        if role == "scheduler"
        else "distributed.Nanny or distributed.Worker"
    )
    advice = f"Write {own}, or a class that inherits from it."
    # A server of another package, such as dask_cuda.CUDAWorker, need not inherit from either.
    if not (hasattr(cls, "__await__") and hasattr(cls, "finished")):
        return f"the class `{name}` is not a {role}: it is not a Dask server", advice
    bases = {base.__name__ for base in cls.__mro__ if base.__module__.startswith("distributed.")}
    other = {"Nanny", "Worker"} if role == "scheduler" else {"Scheduler"}
    if found := bases & other:
        return f"the class `{name}` is not a {role}, but a {min(found).lower()}", advice
    return None
