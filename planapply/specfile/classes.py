"""Whether the classes that a spec names can be imported here; only `local` can know so early."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from planapply.model.diagnostics import Severity
from planapply.specfile.toml_format import Path, Problem, near, nodes

# What comes with distributed itself, and takes longer to import than a plan takes.
_ROLES = ("Scheduler", "Worker", "Nanny")
_KNOWN = {
    "distributed": _ROLES,
    "dask.distributed": _ROLES,
    "distributed.scheduler": ("Scheduler",),
    "distributed.worker": ("Worker",),
    "distributed.nanny": ("Nanny",),
}
_OTHERS = ("dask_cuda.CUDAWorker",)


def unimportable(document: Mapping[str, Any]) -> Iterator[Problem]:
    """An error for each class that can't be imported.

    Use it where the nodes run this very Python. A class that is not distributed's own is imported,
    which runs its module.
    """
    for path, name in _classes(document):
        if said := _trouble(name):
            yield Problem(path, *said)


def misspelt(document: Mapping[str, Any]) -> Iterator[Problem]:
    """A warning for each class that is nearly one of distributed's own; nothing is imported."""
    for path, name in _classes(document):
        module, _, cls = name.rpartition(".")
        names = _KNOWN.get(module, ())
        if cls not in names and near(cls, names):
            yield Problem(
                path, f"`{module}` may have no class `{cls}`", suggestion(name), Severity.WARNING
            )


def suggestion(name: str) -> str:
    """The well-known class that `name`, in dotted form or not, may have meant, as "Did you mean
    …?"."""
    known = [f"{module}.{cls}" for module, names in _KNOWN.items() for cls in names]
    said = near(name, [*known, *_OTHERS])
    if not said and "." not in name and (tail := near(name, _ROLES)):
        said = tail.replace("`", "`distributed.", 1)
    return said


def _classes(document: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """Those that are written; whatever else may be wrong with the document."""
    for path, table in nodes(document):
        if path != ("defaults",) and isinstance(name := table.get("class"), str):
            yield (*path, "class"), name


def _trouble(name: str) -> tuple[str, str] | None:
    module_name, _, class_name = name.rpartition(".")
    if class_name in _KNOWN.get(module_name, ()):
        return None
    did_you_mean = suggestion(name)
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
    did_you_mean = did_you_mean or near(name, classes)
    return (
        f"the class `{name}` can't be imported: {what}",
        did_you_mean or "Write the class's module and name.",
    )
