"""The environments of a spec: that of every node, and those that groups have of their own."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from planapply.model.desired import merge_environments, with_packages
from planapply.model.diagnostics import PlanapplyError, Severity
from planapply.model.environment_settings import ClientEnvironment, EnvironmentSettings
from planapply.model.spec import Spec
from planapply.model.toml import KeyPath
from planapply.specfile.environment import check_packages, describe_left_out
from planapply.specfile.errors import validate_model
from planapply.specfile.options import nodes_version
from planapply.specfile.problem import Problem, iter_environments
from planapply.specfile.setup_commands import check_setup
from planapply.specfile.textfile import read_text
from planapply.specfile.variables import check_variables

ROOT: KeyPath = ("environment",)
"""The path of the environment that groups inherit."""


class NodeEnvironment(NamedTuple):
    """An environment of the spec, with files read."""

    path: KeyPath
    own: EnvironmentSettings
    """The keys that the spec sets at `path`."""
    whole: EnvironmentSettings
    """`own` with what it inherits, without the keys that the provider ignores, and with `"client"` resolved."""


class Environments(NamedTuple):
    """The environments of a spec."""

    found: list[NodeEnvironment]
    """In the order of the document, first that of every node."""
    client: ClientEnvironment | None
    """This Python, if one of them is `"client"`."""


def resolve_environments(
    document: Mapping[str, Any], folder: Path, ignored_settings: frozenset[str]
) -> tuple[Environments | None, list[Problem]]:
    """Return the environments, and the problems; `folder` is the spec's.

    Return None if an environment is not valid.
    """
    tables = {ROOT: document.get("environment", {}), **dict(iter_environments(document))}
    read: dict[KeyPath, EnvironmentSettings] = {}
    problems: list[Problem] = []
    for path, table in tables.items():
        own, new = _read(path, table, folder)
        problems += new
        if own is not None:
            read[path] = own
    client = None
    if ignored_settings.isdisjoint(("environment", "environment.packages")):
        client, new = _find_client(read)
        problems += new
    if len(read) < len(tables):
        return None, problems
    found: list[NodeEnvironment] = []
    root = EnvironmentSettings()
    for path, own in read.items():
        whole = own if client is None else with_packages(own, root.python, client)
        root = root if found else whole
        merged = merge_environments(root, whole, ignored_settings)
        found.append(NodeEnvironment(path, own, merged))
    return Environments(found, client), problems


def with_environments(spec: Spec, environments: Environments) -> Spec:
    """Return the spec with the files of its environments read."""
    own = {environment.path: environment.own for environment in environments.found}
    workers = {
        name: group.model_copy(update={"environment": own[path]})
        if (path := ("workers", name, "environment")) in own
        else group
        for name, group in spec.workers.items()
    }
    # What the spec does not set stays so: its digest has only what it sets.
    update = {"environment": own[ROOT], **({"workers": workers} if spec.workers else {})}
    return spec.model_copy(update=update).with_client(environments.client)


def check_environments(
    environments: Sequence[NodeEnvironment],
    document: Mapping[str, Any],
    folder: Path,
    ignored_settings: frozenset[str],
    *,
    is_local: bool,
) -> Iterator[Problem]:
    """Yield the problems of what the nodes install, run, and set; `document` has no errors but these."""
    for path, own, whole in environments:

        def find_path(name: str, path: KeyPath = path, names: Collection[str] = own.env) -> KeyPath:
            return (*(path if name in names else ROOT), "env", name)

        yield from check_variables(
            whole.env, find_path, has_container=whole.docker is not None, is_local=is_local
        )
    tables = dict(iter_environments(document))
    for path, own, whole in environments:
        if path not in tables:
            continue
        if ignored_settings.isdisjoint(("environment", "environment.packages")):
            yield from check_packages(path, whole, document, folder)
        if ignored_settings.isdisjoint(("environment", "environment.setup")):
            yield from check_setup((*path, "setup"), own.setup)
    yield from _compare_versions(environments)


def _read(
    path: KeyPath, table: Any, folder: Path
) -> tuple[EnvironmentSettings | None, list[Problem]]:
    """Return an environment with the content of its requirements file."""
    settings, _ = validate_model(EnvironmentSettings, table, ())
    if settings is None:
        return None, []  # already reported
    if settings.requirements is not None:
        file = folder / settings.requirements
        try:
            text = read_text(
                file, "the requirements file", "Write its path relative to the spec's folder."
            )
        except PlanapplyError as error:
            where = (*path, "requirements")
            return None, [Problem(where, d.summary, d.detail) for d in error.diagnostics]
        return settings.model_copy(update={"requirements": text}), []
    return settings, []


def _find_client(
    environments: Mapping[KeyPath, EnvironmentSettings],
) -> tuple[ClientEnvironment | None, list[Problem]]:
    """Return what `"client"` stands for here, if an environment has it, and a warning for what is left out."""
    paths = [path for path, own in environments.items() if own.packages == "client"]
    if not paths:
        return None, []
    from planapply.specfile.client_packages import client_packages, client_python

    packages = client_packages()  # takes half a second
    problems = [p for path in paths for p in describe_left_out((*path, "packages"), packages)]
    return ClientEnvironment(python=client_python(), packages=packages.requirements), problems


def _compare_versions(environments: Sequence[NodeEnvironment]) -> Iterator[Problem]:
    """Yield a warning for each group with another version of Python or Dask than other nodes.

    As far as the spec says the versions: those of an image or a container are not known.
    """
    for name, find_version in (("Python", _python), ("Dask", _dask)):
        known = [(e.path, version) for e in environments if (version := find_version(e.whole))]
        for path, version in known[1:]:
            first, expected = known[0]
            if version != expected:
                other = "the scheduler" if first == ROOT else f"group {str(first[1])!r}"
                yield Problem(
                    path,
                    f"group {str(path[1])!r} has {name} {version}, but {other} has {name} {expected}",
                    "Tasks and results may fail to move between them. Use the same version for all nodes.",
                    Severity.WARNING,
                )


def _python(environment: EnvironmentSettings) -> str | None:
    """Return the minor version of Python, on which it depends what nodes understand."""
    return environment.python and ".".join(environment.python.split(".")[:2])


def _dask(environment: EnvironmentSettings) -> str | None:
    return nodes_version(environment, is_local=False)
