"""Checks of the packages that a spec installs on its nodes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from planapply.bootstrap.requirements import Line, logical_lines, parse_options
from planapply.model.diagnostics import Severity
from planapply.model.environment_settings import EnvironmentSettings
from planapply.model.toml import KeyPath
from planapply.specfile.client_packages import ClientPackages
from planapply.specfile.package_names import (
    ARTIFACT,
    is_for_another_system,
    is_unpublished,
    normalize,
)
from planapply.specfile.problem import Problem, iter_environments, iter_node_tables
from planapply.specfile.requirement_sets import find_conflicts
from planapply.specfile.requirements import (
    NEWEST_PYTHON,
    OLDEST_PYTHON,
    Fault,
    check_requirements,
    names_dask,
    show_line,
)
from planapply.specfile.textfile import format_path

_PINNED = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)\s*(?:\[[^\]]*\])?\s*(?:===?\s*(?P<version>[^\s;,]+))?\s*(?P<rest>.*)"
)
_INDEX_OPTIONS = {"--index-url", "--extra-index-url", "--find-links", "--requirement"}
_INDEX_VARIABLES = {
    *("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"),
    "UV_CONFIG_FILE",
}
_NO_DASK = (
    "Nodes without Dask do not start: add dask[distributed], unless another package needs it."
)


class _Source(NamedTuple):
    """One text of requirements, and where it is in the spec."""

    path: KeyPath
    text: str
    file: str = ""
    """The name of the requirements file."""


def describe_left_out(path: KeyPath, client: ClientPackages) -> Iterator[Problem]:
    """Yield a warning for each reason for which `packages = "client"`, at `path`, leaves out packages."""
    for names, reason, advice in (
        (
            client.from_folder,
            "installed here from a local folder",
            "The nodes will not have it. Publish the package, or install it in `setup`.",
        ),
        (
            client.unpublished,
            "part of an operating system or of conda, and not on PyPI",
            "The nodes will not have it. Run planapply from a virtual environment without it.",
        ),
        (client.for_another_system, "not available for Linux", "The nodes will not have it."),
    ):
        if names:
            yield Problem(
                path,
                f"cannot install {', '.join(names)} on the nodes: {reason}",
                advice,
                Severity.WARNING,
            )


def check_packages(
    where: KeyPath, settings: EnvironmentSettings, document: Mapping[str, Any], folder: Path
) -> Iterator[Problem]:
    """Yield the problems of `packages` or `requirements`, as uv will install them.

    `where` is the path of the environment in `document`, the spec as written, with no errors but these;
    `settings` are that environment with what it inherits; `folder` is the spec's.
    """
    table = dict(iter_environments(document))[where]
    # uv of the user's own image may be configured with another package index.
    has_own_image = any("image" in node for _, node in iter_node_tables(document))
    is_client = table.get("packages") == "client"
    sources = _sources(where, settings, table, folder)
    doubt: Severity | None = Severity.WARNING if has_own_image else Severity.ERROR
    if not _INDEX_VARIABLES.isdisjoint(settings.env) or any(_names_index(s.text) for s in sources):
        doubt = None
    if "python" in table or is_client:
        yield from _check_python((*where, "python"), settings.python)
    has_errors = False
    conflicts = _find_conflicts(sources) if not is_client else {}
    for source in sources:
        for fault in (
            *conflicts.get(source.path, ()),
            *check_requirements(source.text, settings.env),
            *_check_availability(source.text, doubt),
        ):
            has_errors = has_errors or fault.severity is Severity.ERROR
            yield _to_problem(source, fault)
    if not sources or (has_errors and not is_client):
        return  # a line with an error may be that of Dask
    path = sources[0].path[: len(where) + 1]
    if not any(logical_lines(source.text) for source in sources):
        yield Problem(path, f"{sources[0].file} has no packages", "Add dask[distributed].")
    elif not any(names_dask(source.text) for source in sources):
        if is_client:
            yield Problem(
                path,
                "cannot install Dask on the nodes: this Python has neither dask nor distributed from an index",
                'Install them from a package index, or list the packages: packages = ["dask", …].',
            )
        else:
            yield Problem(
                path,
                "the environment names neither dask nor distributed",
                _NO_DASK,
                Severity.WARNING,
            )


def _check_python(path: KeyPath, version: str | None) -> Iterator[Problem]:
    minor = int(version.split(".")[1]) if version else NEWEST_PYTHON
    if minor > NEWEST_PYTHON:
        newest = f"The newest version that planapply knows is 3.{NEWEST_PYTHON}."
        yield Problem(path, f"Python {version} may not exist", newest, Severity.WARNING)
    elif minor < OLDEST_PYTHON:
        yield Problem(
            path,
            f"Dask does not run on Python {version}",
            f"Choose a version between 3.{OLDEST_PYTHON} and 3.{NEWEST_PYTHON}.",
            Severity.WARNING,
        )


def _find_conflicts(sources: Sequence[_Source]) -> dict[KeyPath, list[Fault]]:
    """Return the faults of lines that contradict others, by the path of their source."""
    lines = {id(line): (line, source) for source in sources for line in logical_lines(source.text)}
    found: dict[KeyPath, list[Fault]] = {}
    for line, cause, advice in find_conflicts(line for line, _ in lines.values()):
        found.setdefault(lines[id(line)][1].path, []).append(Fault(line, cause, advice))
    return found


def _sources(
    where: KeyPath, settings: EnvironmentSettings, table: Mapping[str, Any], folder: Path
) -> list[_Source]:
    """Return what this table of the spec installs: nothing if it inherits its packages."""
    if "requirements" in table:
        name = format_path(folder / table["requirements"])
        return [_Source((*where, "requirements"), settings.requirements or "", name)]
    path = (*where, "packages")
    packages = settings.packages or () if "packages" in table else ()
    if table.get("packages") == "client":
        return [_Source(path, package) for package in packages]
    return [_Source((*path, i), package) for i, package in enumerate(packages)]


def _to_problem(source: _Source, fault: Fault) -> Problem:
    text = show_line(fault.line.text)
    is_ignored = fault.severity is Severity.WARNING and fault.line.text.startswith("-")
    verb = "ignored" if is_ignored else "cannot install"
    where = f", line {fault.line.number} of {source.file}" if source.file else ""
    return Problem(
        source.path, f"{verb} {text}{where}: {fault.cause}", fault.advice, fault.severity
    )


def _names_index(text: str) -> bool:
    return any(
        option.name in _INDEX_OPTIONS
        for line in logical_lines(text)
        if line.text.startswith("-")
        for option in parse_options(line.text)
    )


def _check_availability(text: str, doubt: Severity | None) -> Iterator[Fault]:
    """Yield packages that PyPI does not have, or not for Linux.

    `doubt` is the severity of the former; None if the nodes have another package index.
    """
    for line in logical_lines(text):
        match = _PINNED.fullmatch(line.text)
        if match is None or match["rest"].startswith(("@", ";")):
            continue  # from an address, or only where its marker holds
        yield from _check_package(line, normalize(match["name"]), match["version"] or "", doubt)


def _check_package(line: Line, name: str, version: str, doubt: Severity | None) -> Iterator[Fault]:
    if name == ARTIFACT:
        yield Fault(
            line, "there is no such package; Debian's pip lists it by mistake", "Remove it."
        )
    elif is_for_another_system(name):
        package = f"{name}=={version}" if version else name
        yield Fault(
            line,
            "it does not exist for Linux",
            f"Remove it, or write {package} ; sys_platform != 'linux'.",
        )
    elif is_unpublished(name) and doubt:
        yield Fault(
            line,
            "it is part of an operating system or of conda, and not on PyPI",
            "Remove it, or install it in environment.setup.",
            doubt,
        )
    elif "+" in version and doubt:
        yield Fault(
            line,
            "PyPI has no local versions",
            f"Write {name}=={version.partition('+')[0]}, or name its index: "
            'env = { UV_EXTRA_INDEX_URL = "https://…" }.',
            doubt,
        )
