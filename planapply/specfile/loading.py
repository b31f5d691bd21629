"""Loading of a spec from TOML; all errors are reported at once, each with its position."""

import json
import math
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tomli
from pydantic import BaseModel, ValidationError

from planapply.model.diagnostics import Diagnostic, PlanapplyError, Severity
from planapply.model.paths import home_problem
from planapply.model.secrets import is_secret_path, secret_values
from planapply.model.spec import EnvironmentSettings, NodeSettings, Spec, state_location
from planapply.model.toml import KeyPath, format_key_path
from planapply.provider import Plugin
from planapply.specfile.classes import check_imports, module_folders
from planapply.specfile.constraints import check_constraints, find_nameless_group
from planapply.specfile.dashboard import missing_plots
from planapply.specfile.environment import check_packages, describe_left_out
from planapply.specfile.errors import explain
from planapply.specfile.locate import Position, find_duplicate, find_nearest, locate
from planapply.specfile.options import check_options, check_preloads, nodes_version
from planapply.specfile.override import Override, apply_overrides
from planapply.specfile.problem import Problem, iter_node_tables
from planapply.specfile.textfile import format_path, hide_values, read_text, source_at
from planapply.specfile.variables import check_variables

_IF_MISSING = "Write one with `planapply init`, or select one with --file."
_IF_NO_STATE = "Pass the spec with --file, or the state with --state."
_MAX_DEPTH = 50
_CREDENTIAL = re.compile("key|secret|token|passw|credential|setup", re.IGNORECASE)
_KEY = re.compile(r"[ \t]*([\w.\"'-]{1,200})[ \t]{0,100}=")

M = TypeVar("M", bound=BaseModel)


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
    nodes run this Python, and a dashboard without plots is a note. Raises PlanapplyError with a diagnostic for each error.
    """
    path = Path(path)
    text = read_text(path, "the spec", _IF_MISSING)
    document = _parse(text, format_path(path))
    applied, override_errors = apply_overrides(document, tuple(overrides))
    spec, problems = _check(document, path.parent, find_plugin, import_classes)
    problems += _check_state(document, path)
    found = override_errors + _to_diagnostics(problems, text, format_path(path), applied)
    errors = tuple(d for d in found if d.severity is Severity.ERROR)
    if errors or spec is None:
        raise PlanapplyError(diagnostics=errors, code="spec_invalid")
    if import_classes:
        is_local = spec.cluster.provider == "local"
        gap = missing_plots(spec.scheduler.options, spec.environment, is_local=is_local)
        found += [gap] if gap else []
    return spec, found


def _check_state(document: Mapping[str, Any], path: Path) -> list[Problem]:
    """Return an error if the state of the spec at `path` is the spec itself, or in no home folder."""
    cluster = document.get("cluster")
    written = cluster.get("state") if isinstance(cluster, Mapping) else None
    if not isinstance(written, str) or "://" in written:
        return []
    where = ("cluster", "state")
    if reason := home_problem(written):
        advice = "Set HOME, or write the absolute path; for a file whose name begins with `~`, write `./~`."
        return [Problem(where, f"`cluster.state` is in no folder: {reason}", advice)]
    try:
        if os.path.realpath(state_location(written, path)) != os.path.realpath(path):
            return []
    except (PlanapplyError, ValueError):
        return []  # reported elsewhere
    default = state_location(None, path.name)
    return [Problem(where, "`cluster.state` is the spec itself", f'Write `state = "{default}"`.')]


def make_spec(
    cluster: str, provider: str, find_plugin: Callable[[str], Plugin], overrides: Sequence[str] = ()
) -> tuple[Spec, list[Diagnostic]]:
    """Return a spec that consists of a name, a provider, and `overrides`; see `load`."""
    document: dict[str, Any] = {"cluster": {"name": cluster, "provider": provider}}
    applied, override_errors = apply_overrides(document, tuple(overrides))
    spec, problems = _check(document, Path(), find_plugin)
    placed = [
        d.model_copy(update={"source": None}) for d in _to_diagnostics(problems, "", "", applied)
    ]
    errors = tuple(d for d in override_errors + placed if d.severity is Severity.ERROR)
    if errors or spec is None:
        raise PlanapplyError(diagnostics=errors, code="spec_invalid")
    return spec, placed


def _parse(text: str, file: str) -> dict[str, Any]:
    if not text.strip():
        raise PlanapplyError(
            f"the spec {file} is empty", "Write one with `planapply init`.", code="spec_invalid"
        )
    if text.lstrip().startswith("{"):
        raise PlanapplyError(
            f"cannot read the spec {file}: it is JSON, not TOML",
            "If it is a state, pass it with --state instead of --file; in Python, use "
            "`planapply.Cluster.from_name` or `planapply.connect`.",
            code="spec_invalid",
        )
    advice = "Text needs quotes, and a table needs its [name]."
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        column, summary = error.colno, f"cannot read {file}: {error.msg[:1].lower()}{error.msg[1:]}"
        if duplicate := find_duplicate(text, error.lineno):
            column, summary = 1, f"`{format_key_path(duplicate)}` is given twice"
            advice = "Remove one of them."
        lines = text.split("\n")
        source = source_at(lines, file, (error.lineno, column))
        if _may_have_secret(lines, error.lineno):
            source = hide_values(source)
    except RecursionError:
        summary, source = f"cannot read {file}: it is nested too deeply", None
        advice = f"Use at most {_MAX_DEPTH} levels."
    except ValueError:  # Python's limit for the length of integers
        summary, source = f"cannot read {file}: a number in it is too long", None
        advice = "Write at most 18 digits."
    raise PlanapplyError(
        diagnostics=(
            Diagnostic(
                summary=summary,
                detail=f"{advice} The rest of the file was not read.",
                source=source,
            ),
        ),
        code="spec_invalid",
    )


def _may_have_secret(lines: Sequence[str], number: int) -> bool:
    """Return whether a line (from 1) of a file that is not TOML may show a secret.

    This is so if its key, or the key of the value that it is in, has such a name.
    """
    if _CREDENTIAL.search(lines[number - 1]):
        return True
    above = (match[1] for line in lines[number - 1 :: -1] if (match := _KEY.match(line)))
    return is_secret_path([part.strip(" \t\"'") for part in next(above, "").split(".")])


def _check(
    document: dict[str, Any],
    folder: Path,
    find_plugin: Callable[[str], Plugin],
    import_classes: bool = False,
) -> tuple[Spec | None, list[Problem]]:
    """Return the problems, and the spec unless one of them is an error."""
    unsupported: list[Problem] = []
    document = _remove_unsupported(document, (), unsupported)
    spec, problems = _validate(document, folder, find_plugin)
    if nameless := find_nameless_group(document):
        problems = [problem for problem in problems if problem.path[:1] != ("workers",)]
        problems.append(nameless)
    reported = {problem.path for problem in unsupported}
    if import_classes and _provider_name(document) == "local":
        ill_formed = {p.path for p in problems if p.severity is Severity.ERROR}
        with module_folders(document):
            found = [*check_imports(document), *check_preloads(document, is_local=True)]
        problems += [p for p in found if p.path not in ill_formed]
    return (None if unsupported else spec), unsupported + [
        p for p in problems if p.path not in reported
    ]


def _remove_unsupported(value: Any, path: KeyPath, unsupported: list[Problem]) -> Any:
    """Return `value` without values that TOML supports and JSON does not; report them in `unsupported`."""
    name = format_key_path(path)
    if len(path) > _MAX_DEPTH:
        short = path[:4]
        unsupported.append(
            Problem(
                short,
                f"`{format_key_path(short)}` is nested too deeply",
                f"Use at most {_MAX_DEPTH} levels.",
            )
        )
    elif isinstance(value, str) and "\0" in value:
        unsupported.append(Problem(path, f"`{name}` has a zero byte", "Remove it."))
    elif isinstance(value, Mapping):
        if any("\0" in key for key in value):
            unsupported.append(
                Problem(
                    path,
                    f"{f'`{name}`' if path else 'the spec'} has a key with a zero byte",
                    "Remove the byte.",
                )
            )
        return {
            key: _remove_unsupported(item, (*path, key), unsupported) for key, item in value.items()
        }
    elif isinstance(value, list):
        return [
            _remove_unsupported(item, (*path, index), unsupported)
            for index, item in enumerate(value)
        ]
    elif isinstance(value, float) and not math.isfinite(value):
        unsupported.append(Problem(path, f"`{name}` cannot be {value}", "Write a finite number."))
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 1 << 63:
        unsupported.append(Problem(path, f"`{name}` is too large", "Write at most 18 digits."))
    elif not isinstance(value, str | int | float):
        unsupported.append(
            Problem(path, f"`{name}` cannot be a date or a time", f'Quote it: `"{value}"`.')
        )
    else:
        return value
    return None


def _validate(
    document: dict[str, Any], folder: Path, find_plugin: Callable[[str], Plugin]
) -> tuple[Spec | None, list[Problem]]:
    spec, problems = _validate_model(Spec, document, ())
    problems += check_constraints(document)
    environment, found = _resolve_environment(document.get("environment", {}), folder)
    problems += found
    plugin, found = _find_plugin(document, find_plugin)
    problems += found
    if plugin is None:
        return None, problems
    problems = [problem for problem in problems if not _is_warning_about_ignored(problem, plugin)]
    settings, found = _validate_model(plugin.settings, document.get("provider", {}), ("provider",))
    problems += found
    problems += _check_node_settings(document, plugin, {problem.path for problem in problems})
    if spec is None or settings is None or environment is None:
        return None, problems
    problems += _warn_of_ignored_keys(document, plugin)
    is_local = _provider_name(document) == "local"
    problems += check_options(document, nodes_version(environment, is_local))
    if not is_local:
        problems += check_preloads(document, is_local=False)
    problems += check_variables(
        environment.env, has_container=environment.docker is not None, is_local=is_local
    )
    if not plugin.ignored_settings.intersection(("environment", "environment.packages")):
        problems += check_packages(environment, document, folder)
    values = settings.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return spec.model_copy(update={"provider": values, "environment": environment}), problems


def _validate_model(
    model: type[M], document: Any, parent: KeyPath
) -> tuple[M | None, list[Problem]]:
    # As JSON, since a strict model accepts a list for a tuple only in JSON.
    try:
        return model.model_validate_json(json.dumps(document)), []
    except ValidationError as error:
        return None, list(explain(error, model, document, parent))


def _find_plugin(
    document: Mapping[str, Any], find_plugin: Callable[[str], Plugin]
) -> tuple[Plugin | None, list[Problem]]:
    name = _provider_name(document)
    if not isinstance(name, str):
        return None, []  # already reported
    try:
        return find_plugin(name), []
    except PlanapplyError as error:
        path = ("cluster", "provider")
        return None, [Problem(path, d.summary, d.detail, d.severity) for d in error.diagnostics]


def _provider_name(document: Mapping[str, Any]) -> Any:
    """Return the provider's name, or whatever value the document has in its place."""
    cluster = document.get("cluster", {})
    return cluster.get("provider", "local") if isinstance(cluster, Mapping) else "local"


def _check_node_settings(
    document: Mapping[str, Any], plugin: Plugin, reported: Collection[KeyPath]
) -> Iterator[Problem]:
    """Yield the problems of the provider's settings that are set for a node or a group."""
    provider = document.get("provider")
    provider = provider if isinstance(provider, Mapping) else {}
    for path, table in iter_node_tables(document):
        for key in plugin.node_settings & table.keys():
            _, found = _validate_model(plugin.settings, {**provider, key: table[key]}, path)
            prefix = (*path, key)
            yield from (
                p for p in found if p.path[: len(prefix)] == prefix and p.path not in reported
            )


def _is_warning_about_ignored(problem: Problem, plugin: Plugin) -> bool:
    """Return whether a warning is about a key that the provider ignores, which another one says."""
    if problem.severity is not Severity.WARNING or not problem.path:
        return False
    names = {str(problem.path[-1]), ".".join(map(str, problem.path))}
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
        ("environment", key)
        for key in document.get("environment", {})
        if not plugin.ignored_settings.isdisjoint(("environment", f"environment.{key}"))
    ]
    for path in ignored:
        yield Problem(
            path,
            f"provider `{plugin.name}` ignores `{format_key_path(path)}`",
            "Remove the key: it has no effect.",
            Severity.WARNING,
        )


def _resolve_environment(
    table: Any, folder: Path
) -> tuple[EnvironmentSettings | None, list[Problem]]:
    """Return the environment with the content of its requirements file, or the list for "client"."""
    settings, _ = _validate_model(EnvironmentSettings, table, ())
    if settings is None:
        return None, []  # already reported
    if settings.requirements is not None:
        where = ("environment", "requirements")
        path = folder / settings.requirements
        try:
            text = read_text(
                path, "the requirements file", "Write its path relative to the spec's folder."
            )
        except PlanapplyError as error:
            return None, [Problem(where, d.summary, d.detail) for d in error.diagnostics]
        return settings.model_copy(update={"requirements": text}), []
    if settings.packages != "client":
        return settings, []
    from planapply.specfile.client_packages import client_packages, client_python

    client = client_packages()
    update = {"packages": client.requirements, "python": settings.python or client_python()}
    return settings.model_copy(update=update), list(describe_left_out(client))


def _to_diagnostics(
    problems: Sequence[Problem], text: str, file: str, applied: Sequence[Override]
) -> list[Diagnostic]:
    """Return the problems in the order of the file; those in a value of `--set` name the option."""
    positions = locate(text) if problems else {}
    lines = text.split("\n")
    where = [
        (_find_override(p.path, positions, applied), find_nearest(positions, p.path))
        for p in problems
    ]
    # Another problem on the same line, or in the same option, must not show a credential.
    secret = {
        o or position[0] for p, (o, position) in zip(problems, where, strict=True) if p.is_secret
    }
    secret |= {position[0] for path, position in positions.items() if is_secret_path(path)}
    values = secret_values(tomli.loads(text)) if problems else set()
    found = []
    for problem, (override, position) in zip(problems, where, strict=True):
        source, summary = None, problem.summary
        is_secret = (override or position[0]) in secret
        if override is None:
            source = source_at(lines, file, position)
            # The end of a text of several lines has no path of its own.
            if is_secret or any(value in source.text for value in values):
                source = hide_values(source)
        else:
            is_secret = is_secret or is_secret_path(override.path)
            option = format_key_path(override.path) if is_secret else override.option
            summary = f"--set {option}: {summary}"
        found.append(
            Diagnostic(
                severity=problem.severity, summary=summary, detail=problem.detail, source=source
            )
        )
    return sorted(found, key=lambda d: (d.source.line, d.source.column) if d.source else (0, 0))


def _find_override(
    path: KeyPath, positions: Mapping[KeyPath, Position], applied: Sequence[Override]
) -> Override | None:
    """Return the last `--set` option that set the value at `path`, if any."""
    for override in reversed(applied):
        is_inside = path[: len(override.path)] == override.path
        is_created = path not in positions and override.path[: len(path)] == path
        if is_inside or is_created:
            return override
    return None


def find_state_location(
    path: str | Path, overrides: Sequence[str] = (), if_missing: str = ""
) -> str:
    """Return the location of the state of the spec at `path`, or `path` if it is itself a state.

    Other keys of the spec are not checked. If the spec does not exist, its default state is used, if
    that exists; otherwise raises PlanapplyError with the advice `if_missing` (by default, for the command line). Also raises PlanapplyError for
    a file that is neither a spec nor a state.
    """
    path = Path(path)
    default = state_location(None, path)
    if not path.exists() and Path(default).exists():
        return default
    if not path.exists():
        raise PlanapplyError(
            f"there is no spec or state at {format_path(path)}",
            if_missing or _IF_NO_STATE,
            code="file_missing",
        )
    text = read_text(path, "the spec", _IF_MISSING)
    if text.lstrip().startswith("{"):
        return str(path)
    document = _parse(text, format_path(path))
    applied, override_errors = apply_overrides(document, tuple(overrides))
    cluster = document.get("cluster")
    written = cluster["state"] if isinstance(cluster, Mapping) and "state" in cluster else None
    if written is None and not override_errors:
        return default
    minimal = {"cluster": {"name": "any", "state": written}}
    problems: list[Problem] = []
    minimal = _remove_unsupported(minimal, (), problems)
    problems = problems or _validate_model(Spec, minimal, ())[1] or _check_state(minimal, path)
    if override_errors or problems:
        raise PlanapplyError(
            diagnostics=(
                *override_errors,
                *_to_diagnostics(problems, text, format_path(path), applied),
            )
        )
    return state_location(written, path)


def is_protected(path: str | Path, overrides: Sequence[str] = ()) -> bool:
    """Return whether the spec at `path` sets `protect`, even if the spec has errors."""
    cluster = _parse_leniently(path, overrides).get("cluster")
    return isinstance(cluster, Mapping) and cluster.get("protect") is True


def find_provider(path: str | Path, overrides: Sequence[str] = ()) -> tuple[Any, Any]:
    """Return the provider's name and settings in the spec at `path`, even if it has errors."""
    document = _parse_leniently(path, overrides)
    return _provider_name(document), document.get("provider")


def _parse_leniently(path: str | Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Return the spec's document, empty if it cannot be parsed."""
    path = Path(path)
    try:
        document = _parse(read_text(path, "the spec", ""), format_path(path))
        apply_overrides(document, tuple(overrides))
    except PlanapplyError:
        return {}
    return document
