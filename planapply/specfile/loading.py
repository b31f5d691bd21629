"""Loading of a spec from TOML; all errors are reported at once, each with its position."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from planapply.model.desired import resolve_client
from planapply.model.diagnostics import Diagnostic, PlanapplyError, Severity
from planapply.model.spec import NodeSettings, Spec
from planapply.model.toml import KeyPath, format_key_path
from planapply.provider import Plugin
from planapply.specfile.classes import check_imports
from planapply.specfile.constraints import check_constraints, find_nameless_group
from planapply.specfile.dashboard import missing_plots
from planapply.specfile.diagnose import to_diagnostics
from planapply.specfile.document import parse_document, provider_name, remove_unsupported
from planapply.specfile.environments import (
    check_environments,
    resolve_environments,
    with_environments,
)
from planapply.specfile.errors import validate_model
from planapply.specfile.lookup import IF_MISSING, check_state
from planapply.specfile.options import check_options, check_preloads, nodes_version
from planapply.specfile.override import apply_overrides
from planapply.specfile.problem import Problem, iter_environments, iter_node_tables
from planapply.specfile.textfile import format_path, read_text


def load(
    path: str | Path,
    find_plugin: Callable[[str], Plugin],
    overrides: Sequence[str] = (),
    *,
    import_classes: bool = False,
) -> tuple[Spec, list[Diagnostic]]:
    """Return the spec in the file at `path`, and warnings about it.

    `find_plugin` returns the plug-in with a name, or raises PlanapplyError; `overrides` are those of
    `--set`. If `import_classes`, a class that cannot be imported is an error for providers whose
    nodes run this Python, and a dashboard without plots is a note. Raises PlanapplyError with a
    diagnostic for each error.
    """
    path = Path(path)
    text = read_text(path, "the spec", IF_MISSING)
    document = parse_document(text, format_path(path))
    applied, override_errors = apply_overrides(document, tuple(overrides))
    spec, problems = _check(document, path.parent, find_plugin, import_classes)
    problems += check_state(document, path)
    found = override_errors + to_diagnostics(problems, text, format_path(path), applied)
    errors = tuple(d for d in found if d.severity is Severity.ERROR)
    if errors or spec is None:
        raise PlanapplyError(diagnostics=errors, code="spec_invalid")
    if import_classes:
        provider = spec.cluster.provider
        environment = resolve_client(spec, {}).environment
        missing = missing_plots(spec.scheduler.options, environment, provider)
        found += [missing] if missing else []
    return spec, found


def make_spec(
    cluster: str, provider: str, find_plugin: Callable[[str], Plugin], overrides: Sequence[str] = ()
) -> tuple[Spec, list[Diagnostic]]:
    """Return a spec that consists of a name, a provider, and `overrides`; see `load`."""
    document: dict[str, Any] = {"cluster": {"name": cluster, "provider": provider}}
    applied, override_errors = apply_overrides(document, tuple(overrides))
    spec, problems = _check(document, Path(), find_plugin)
    placed = [
        d.model_copy(update={"source": None}) for d in to_diagnostics(problems, "", "", applied)
    ]
    errors = tuple(d for d in override_errors + placed if d.severity is Severity.ERROR)
    if errors or spec is None:
        raise PlanapplyError(diagnostics=errors, code="spec_invalid")
    return spec, placed


def _check(
    document: dict[str, Any],
    folder: Path,
    find_plugin: Callable[[str], Plugin],
    import_classes: bool = False,
) -> tuple[Spec | None, list[Problem]]:
    """Return the problems, and the spec unless one of them is an error."""
    unsupported: list[Problem] = []
    document = remove_unsupported(document, (), unsupported)
    spec, problems = _validate(document, folder, find_plugin)
    if nameless := find_nameless_group(document):
        problems = [problem for problem in problems if problem.path[:1] != ("workers",)]
        problems.append(nameless)
    reported = {problem.path for problem in unsupported}
    if import_classes and provider_name(document) == "local":
        ill_formed = {p.path for p in problems if p.severity is Severity.ERROR}
        found = [*check_imports(document), *check_preloads(document, is_local=True)]
        problems += [p for p in found if p.path not in ill_formed]
    return (None if unsupported else spec), unsupported + [
        p for p in problems if p.path not in reported
    ]


def _validate(
    document: dict[str, Any], folder: Path, find_plugin: Callable[[str], Plugin]
) -> tuple[Spec | None, list[Problem]]:
    spec, problems = validate_model(Spec, document, ())
    problems += check_constraints(document)
    plugin, found = _find_plugin(document, find_plugin)
    ignored = plugin.ignored_settings if plugin else frozenset()
    environments, wrong = resolve_environments(document, folder, ignored)
    problems += wrong + found
    if plugin is None:
        return None, problems
    problems = [problem for problem in problems if not _is_warning_about_ignored(problem, plugin)]
    settings, found = validate_model(plugin.settings, document.get("provider", {}), ("provider",))
    problems += found
    problems += _check_node_settings(document, plugin, {problem.path for problem in problems})
    if spec is None or settings is None or environments is None:
        return None, problems
    problems += _warn_of_ignored_keys(document, plugin)
    is_local = provider_name(document) == "local"
    versions = {e.path: nodes_version(e.whole, is_local) for e in environments.found}
    problems += check_options(document, versions)
    if not is_local:
        problems += check_preloads(document, is_local=False)
    problems += dict.fromkeys(
        check_environments(environments.found, document, folder, ignored, is_local=is_local)
    )
    values = settings.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    resolved = with_environments(spec, environments)
    return resolved.model_copy(update={"provider": values}), problems


def _find_plugin(
    document: Mapping[str, Any], find_plugin: Callable[[str], Plugin]
) -> tuple[Plugin | None, list[Problem]]:
    name = provider_name(document)
    if not isinstance(name, str):
        return None, []  # already reported
    try:
        return find_plugin(name), []
    except PlanapplyError as error:
        path = ("cluster", "provider")
        return None, [Problem(path, d.summary, d.detail, d.severity) for d in error.diagnostics]


def _check_node_settings(
    document: Mapping[str, Any], plugin: Plugin, reported: Collection[KeyPath]
) -> Iterator[Problem]:
    """Yield the problems of the provider's settings that are set for a node or a group."""
    provider = document.get("provider")
    provider = provider if isinstance(provider, Mapping) else {}
    for path, table in iter_node_tables(document):
        for key in plugin.node_settings & table.keys():
            _, found = validate_model(plugin.settings, {**provider, key: table[key]}, path)
            prefix = (*path, key)
            yield from (
                p for p in found if p.path[: len(prefix)] == prefix and p.path not in reported
            )


def _is_warning_about_ignored(problem: Problem, plugin: Plugin) -> bool:
    """Return whether a warning is about a key that the provider ignores, which another one says."""
    if problem.severity is not Severity.WARNING or not problem.path:
        return False
    path = problem.path[2:] if problem.path[0] == "workers" else problem.path
    names = {str(problem.path[-1]), ".".join(map(str, path))}
    return not names.isdisjoint(plugin.ignored_settings)


def _warn_of_ignored_keys(document: Mapping[str, Any], plugin: Plugin) -> Iterator[Problem]:
    """Yield a warning for each key that this provider ignores."""
    ignored = [
        (*path, key)
        for path, table in iter_node_tables(document)
        for key in table
        if key in plugin.ignored_settings and key in NodeSettings.model_fields
    ]
    ignored += [
        (*path, key)
        for path, table in iter_environments(document)
        for key in table
        if not plugin.ignored_settings.isdisjoint(("environment", f"environment.{key}"))
    ]
    for path in ignored:
        yield Problem(
            path,
            f"provider `{plugin.name}` ignores `{format_key_path(path)}`",
            "Remove the key: it has no effect.",
            Severity.WARNING,
        )
