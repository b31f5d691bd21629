"""Whether the classes that a spec names can be imported here; only `local` can know so early."""

import importlib
from collections.abc import Iterator
from pathlib import Path as FilePath

from planapply.model.diagnostics import Diagnostic, Severity
from planapply.model.spec import Spec
from planapply.specfile.locate import locate
from planapply.specfile.reading import read_text, shown, source_at
from planapply.specfile.words import Path, Problem, near

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


def check_classes(spec: Spec, file: FilePath | None = None) -> list[Diagnostic]:
    """An error for each class that can't be imported, with its place in `file`, where that is
    given.

    Use it where the nodes run this very Python. A class that is not distributed's own is imported,
    which runs its module.
    """
    wrong = [(path, name, *said) for path, name in _classes(spec) if (said := _trouble(name))]
    if not wrong:
        return []
    text = read_text(file, "the spec", "") if file else ""
    places, lines = locate(text), text.split("\n")
    found = []
    for path, name, summary, detail in wrong:
        place = places.get(path)
        # One from --set, or a default, stands nowhere in the file.
        source = None
        if file and place and name in lines[place[0] - 1]:
            source = source_at(lines, shown(file), place)
        found.append(Diagnostic(summary=summary, detail=detail, source=source))
    return found


def misspelt(spec: Spec) -> Iterator[Problem]:
    """A warning for each class that is nearly one of distributed's own; nothing is imported."""
    for path, name in _classes(spec):
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


def _classes(spec: Spec) -> Iterator[tuple[Path, str]]:
    yield ("scheduler", "class"), spec.scheduler.cls
    for group, settings in spec.workers.items():
        yield ("workers", group, "class"), settings.cls


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
