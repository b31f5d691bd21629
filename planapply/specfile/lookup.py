"""Single facts of a spec, such as the location of its state, also if the rest of it has errors."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from planapply.model.diagnostics import PlanapplyError
from planapply.model.paths import home_problem
from planapply.model.spec import HookSettings, Spec, state_location
from planapply.specfile.diagnose import to_diagnostics
from planapply.specfile.document import parse_document, provider_name, remove_unsupported
from planapply.specfile.errors import validate_model
from planapply.specfile.override import apply_overrides
from planapply.specfile.problem import Problem
from planapply.specfile.textfile import format_path, read_text

IF_MISSING = "Write one with `planapply init`, or select one with --file."
_IF_NO_STATE = "Pass the spec with --file, or the state with --state."


def find_state_location(
    path: str | Path, overrides: Sequence[str] = (), if_missing: str = ""
) -> str:
    """Return the location of the state of the spec at `path`, or `path` if it is itself a state.

    Other keys of the spec are not checked. If the spec does not exist, its default state is used, if
    that exists; otherwise raises PlanapplyError with the advice `if_missing` (by default, for the
    command line). Also raises PlanapplyError for a file that is neither a spec nor a state.
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
    text = read_text(path, "the spec", IF_MISSING)
    if text.lstrip().startswith("{"):
        return str(path)
    document = parse_document(text, format_path(path))
    applied, override_errors = apply_overrides(document, tuple(overrides))
    cluster = document.get("cluster")
    written = cluster["state"] if isinstance(cluster, Mapping) and "state" in cluster else None
    if written is None and not override_errors:
        return default
    minimal = {"cluster": {"name": "any", "state": written}}
    problems: list[Problem] = []
    minimal = remove_unsupported(minimal, (), problems)
    problems = problems or validate_model(Spec, minimal, ())[1] or check_state(minimal, path)
    if override_errors or problems:
        raise PlanapplyError(
            diagnostics=(
                *override_errors,
                *to_diagnostics(problems, text, format_path(path), applied),
            )
        )
    return state_location(written, path)


def check_state(document: Mapping[str, Any], path: Path) -> list[Problem]:
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


def is_protected(path: str | Path, overrides: Sequence[str] = ()) -> bool:
    """Return whether the spec at `path` sets `protect`, even if the spec has errors."""
    cluster = _parse_leniently(path, overrides).get("cluster")
    return isinstance(cluster, Mapping) and cluster.get("protect") is True


def find_provider(path: str | Path, overrides: Sequence[str] = ()) -> tuple[Any, Any]:
    """Return the provider's name and settings in the spec at `path`, even if it has errors."""
    document = _parse_leniently(path, overrides)
    return provider_name(document), document.get("provider")


def find_cluster_name(path: str | Path, overrides: Sequence[str] = ()) -> Any:
    """Return the cluster's name in the spec at `path`, even if it has errors; None if there is none."""
    cluster = _parse_leniently(path, overrides).get("cluster")
    return cluster.get("name") if isinstance(cluster, Mapping) else None


def find_hooks(path: str | Path, overrides: Sequence[str] = ()) -> HookSettings:
    """Return the hooks in the spec at `path`; none if it does not exist, or is a state.

    Other keys of the spec are not checked. Raises PlanapplyError if the hooks are invalid.
    """
    path = Path(path)
    if not path.exists():
        return HookSettings()
    text = read_text(path, "the spec", IF_MISSING)
    if text.lstrip().startswith("{"):
        return HookSettings()
    return _validate_hooks(parse_document(text, format_path(path)), text, path, overrides)


def read_hooks(path: str | Path) -> HookSettings:
    """Return the hooks in the file at `path`, a spec or a file with nothing but hooks.

    Raises PlanapplyError if they are invalid, or if there are none.
    """
    path = Path(path)
    advice = "Name a file with a table [hooks], which may be the spec."
    text = read_text(path, "the file of hooks", advice)
    is_json = text.lstrip().startswith("{")
    document = parse_document(text, format_path(path)) if text.strip() and not is_json else {}
    if not document.get("hooks"):
        reason = "it is JSON, not TOML" if is_json else "it has none"
        raise PlanapplyError(
            f"cannot read hooks from {format_path(path)}: {reason}",
            'Add one, such as `on_node_lost = ["./notify.sh", "lost"]`, to its table [hooks].',
            code="spec_invalid",
        )
    return _validate_hooks(document, text, path, ())


def _validate_hooks(
    document: dict[str, Any], text: str, path: Path, overrides: Sequence[str]
) -> HookSettings:
    applied, override_errors = apply_overrides(document, tuple(overrides))
    problems: list[Problem] = []
    table = remove_unsupported(document.get("hooks", {}), ("hooks",), problems)
    hooks, found = validate_model(HookSettings, table, ("hooks",))
    reported = {problem.path for problem in problems}
    problems += [problem for problem in found if problem.path not in reported]
    if override_errors or problems or hooks is None:
        placed = to_diagnostics(problems, text, format_path(path), applied)
        raise PlanapplyError(diagnostics=(*override_errors, *placed), code="spec_invalid")
    return hooks


def _parse_leniently(path: str | Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Return the spec's document, empty if it cannot be parsed."""
    path = Path(path)
    try:
        document = parse_document(read_text(path, "the spec", ""), format_path(path))
        apply_overrides(document, tuple(overrides))
    except PlanapplyError:
        return {}
    return document
