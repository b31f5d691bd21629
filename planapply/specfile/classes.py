"""Whether the classes that a spec names can be imported here; only `local` can know so early."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from planapply.model.diagnostics import Severity
from planapply.model.toml import KeyPath
from planapply.specfile.problem import Problem, iter_node_tables, suggest

# What comes with distributed itself, and takes longer to import than a plan takes.
_ROLES = ("Scheduler", "Worker", "Nanny")
_DASK_CLASSES = {
    "distributed": _ROLES,
    "dask.distributed": _ROLES,
    "distributed.scheduler": ("Scheduler",),
    "distributed.worker": ("Worker",),
    "distributed.nanny": ("Nanny",),
}
_OTHER_CLASSES = ("dask_cuda.CUDAWorker",)


def check_imports(document: Mapping[str, Any]) -> Iterator[Problem]:
    """An error for each class that can't be imported.

    Use it where the nodes run this very Python. A class that is not distributed's own is imported,
    which runs its module.
    """
    for path, name in _classes(document):
        if problem := _check_import(name):
            yield Problem(path, *problem)


def check_spelling(document: Mapping[str, Any]) -> Iterator[Problem]:
    """A warning for each class that is nearly one of distributed's own; nothing is imported."""
    for path, name in _classes(document):
        module, _, cls = name.rpartition(".")
        names = _DASK_CLASSES.get(module, ())
        if cls not in names and suggest(cls, names):
            yield Problem(
                path, f"`{module}` may have no class `{cls}`", suggest_class(name), Severity.WARNING
            )


def suggest_class(name: str) -> str:
    """The well-known class that `name`, in dotted form or not, may have meant, as "Did you mean
    …?"."""
    known = [f"{module}.{cls}" for module, names in _DASK_CLASSES.items() for cls in names]
    hint = suggest(name, [*known, *_OTHER_CLASSES])
    if not hint and "." not in name and (tail := suggest(name, _ROLES)):
        hint = tail.replace("`", "`distributed.", 1)
    return hint


def _classes(document: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """Those that are written; whatever else may be wrong with the document."""
    for path, table in iter_node_tables(document):
        if path != ("defaults",) and isinstance(name := table.get("class"), str):
            yield (*path, "class"), name


def _check_import(name: str) -> tuple[str, str] | None:
    module_name, _, class_name = name.rpartition(".")
    if class_name in _DASK_CLASSES.get(module_name, ()):
        return None
    did_you_mean = suggest_class(name)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        where = "" if missing == module_name else f", which `{module_name}` needs"
        return (
            f"the class `{name}` can't be imported: there is no module `{missing}`{where}",
            f"{did_you_mean} Install it, or put its folder on PYTHONPATH.".strip(),
        )
    except (Exception, SystemExit) as error:  # a module may fail in any way when it is imported
        return (
            f"the class `{name}` can't be imported: {type(error).__name__}: {error}",
            f"This happens with `import {module_name}` in Python too.",
        )
    found = getattr(module, class_name, None)
    if isinstance(found, type):
        return None
    what = (
        f"`{module_name}` has nothing of that name"
        if found is None
        else f"this is no class, but of type `{type(found).__name__}`"
    )
    classes = [
        f"{module_name}.{name}"
        for name, value in vars(module).items()
        if isinstance(value, type) and not name.startswith("_")
    ]
    did_you_mean = did_you_mean or suggest(name, classes)
    return (
        f"the class `{name}` can't be imported: {what}",
        did_you_mean or "Write the class's module and name.",
    )
