"""Saved plans: the model as JSON, validated when it is read."""

import errno
import json
import os
import shlex
from pathlib import Path
from typing import Any

import tomli
from pydantic import ValidationError
from pydantic_core import from_json, to_json

from planapply.model.diagnostics import PlanapplyError
from planapply.model.plan import FORMAT_VERSION, Plan
from planapply.model.validation import describe_problem
from planapply.openfile import read_file
from planapply.store.errors import format_path
from planapply.store.files import replace_file
from planapply.store.planfile_migration import migrate_from_1, with_current_digests

_PLAN_AGAIN = "To plan again: `planapply plan --out FILE`"


def write_plan(path: str, plan: Plan) -> None:
    """Save a plan to a file of mode 0600, which may replace an older plan.

    Raises PlanapplyError; then an existing file is unchanged.
    """
    check_destination(path)
    try:
        replace_file(path, plan.model_dump_json(indent=1).encode() + b"\n")
    except OSError as error:
        raise _save_error(path, error.strerror or str(error)) from error


def check_destination(path: str) -> None:
    """Raise PlanapplyError if it is known in advance that no plan can be saved to this path."""
    if Path(path).exists() and not _is_plan(path):
        raise PlanapplyError(
            f"cannot save the plan to {format_path(path)}: the file exists and is not a plan file",
            "Choose another file with --out.",
        )
    folder = os.path.dirname(os.path.realpath(path))
    if not os.access(folder, os.W_OK | os.X_OK):
        reason = errno.EACCES if os.path.isdir(folder) else errno.ENOENT
        raise _save_error(path, os.strerror(reason))


def read_plan(path: str, command: str = "apply") -> Plan:
    """Return a plan that `write_plan` saved; an older format is migrated, in memory only.

    `command` is the one that reads the plan: a spec in place of a plan is passed to it in another way.

    Raises PlanapplyError if there is no plan, if it is damaged, and if a newer planapply wrote it.
    """
    try:
        data = read_file(path, allow_pipe=True)
    except OSError as error:
        is_missing = isinstance(error, FileNotFoundError)
        name = shlex.quote(format_path(path)) if is_missing else "FILE"
        raise PlanapplyError(
            f"cannot read the plan file {format_path(path)}: {error.strerror or error}",
            f"To create a plan file: `planapply plan --out {name}`",
        ) from error
    if _is_spec(path, data):
        name = format_path(path)
        raise PlanapplyError(
            f"{name} is a spec, not a plan file",
            f"Run `planapply {command} -f {shlex.quote(name)}`.",
            code="plan_invalid",
        )
    document = _migrate(path, _parse(path, data))
    try:
        # From JSON, because strict models accept a list for a tuple only in JSON.
        plan = Plan.model_validate_json(to_json(document, inf_nan_mode="constants"))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise _damaged_error(path, f"{where}: {describe_problem(first)}.") from None
    needed = {change.after for change in plan.changes if change.after is not None}
    if needed - plan.configs.keys() or any(key not in c.digests for key, c in plan.configs.items()):
        raise _damaged_error(path, "The configurations in it were changed.")
    return with_current_digests(plan)


def _is_plan(path: str) -> bool:
    """Return whether the file may be replaced: a plan of any version, or an empty file."""
    try:
        data = read_file(path)
        document = from_json(data) if data.strip() else {"changes": []}
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and "changes" in document


def _is_spec(path: str, data: bytes) -> bool:
    """Return whether a file is a spec, perhaps with errors."""
    try:
        return "cluster" in tomli.loads(data.decode())
    except (ValueError, RecursionError):
        return path.endswith(".toml") and not data.lstrip().startswith(b"{")


def _parse(path: str, data: bytes) -> dict[str, Any]:
    try:
        document = from_json(data)
    except ValueError as error:
        raise _damaged_error(path, f"It is not JSON: {error}.") from None
    if not isinstance(document, dict) or "changes" not in document:
        is_state = isinstance(document, dict) and "serial" in document
        raise PlanapplyError(
            f"{format_path(path)} is not a plan file",
            f"It is a state. To show it: `planapply show --state {shlex.quote(path)}`"
            if is_state
            else _PLAN_AGAIN,
        )
    return document


def _migrate(path: str, document: dict[str, Any]) -> dict[str, Any]:
    version = document.get("format_version")
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        raise PlanapplyError(
            f"cannot read the plan file {format_path(path)}: it was written by another version of "
            "planapply",
            f"The file has format {json.dumps(version)}; this planapply supports up to format "
            f"{FORMAT_VERSION}. Upgrade planapply. {_PLAN_AGAIN}",
        )
    if version == 1:
        try:
            return migrate_from_1(document)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise _damaged_error(path, "It is JSON, but not a valid plan.") from None
    return document


def _save_error(path: str, reason: str) -> PlanapplyError:
    return PlanapplyError(
        f"cannot save the plan to {format_path(path)}: {reason}", "Choose another file with --out."
    )


def _damaged_error(path: str, reason: str) -> PlanapplyError:
    return PlanapplyError(
        f"the plan file {format_path(path)} is damaged",
        f"{reason} {_PLAN_AGAIN}",
        code="plan_invalid",
    )
