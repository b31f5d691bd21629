"""A saved plan: the model as JSON, and nothing that it can't be trusted to be."""

import errno
import json
import os
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import from_json

from planapply.model.diagnostics import PlanapplyError
from planapply.model.plan import Plan
from planapply.store.errors import format_path
from planapply.store.files import replace_file

FORMAT_VERSION: int = Plan.model_fields["format_version"].default
_PLAN_AGAIN = "Plan again: planapply plan --out FILE"


def write_plan(path: str, plan: Plan) -> None:
    """Save a plan, mode 0600, in place of an older one or of nothing.

    Raises PlanapplyError, and then what was there is intact.
    """
    check_destination(path)
    try:
        replace_file(path, plan.model_dump_json(indent=1).encode() + b"\n")
    except OSError as error:
        raise _save_error(path, error.strerror or str(error)) from error


def check_destination(path: str) -> None:
    """Raise PlanapplyError where no plan can be saved, as far as that is known before there is one."""
    if Path(path).exists() and not _is_plan(path):
        raise PlanapplyError(
            f"{format_path(path)} is there already, and is no plan file",
            "Only a plan is replaced by a plan. Name another file with --out.",
        )
    folder = os.path.dirname(os.path.realpath(path))
    if not os.access(folder, os.W_OK | os.X_OK):
        reason = errno.EACCES if os.path.isdir(folder) else errno.ENOENT
        raise _save_error(path, os.strerror(reason))


def read_plan(path: str) -> Plan:
    """A plan that `write_plan` saved.

    Raises PlanapplyError where there is none, and for one that is damaged, or of another version.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise PlanapplyError(
            f"the plan file {format_path(path)} can't be read: {error.strerror or error}",
            "`planapply plan --out FILE` makes one.",
        ) from error
    _check_kind(path, data)
    try:
        plan = Plan.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise _damaged_error(path, f"{where}: {first['msg']}.") from None
    needed = {change.after for change in plan.changes if change.after is not None}
    if needed - plan.configs.keys() or any(c.digest != key for key, c in plan.configs.items()):
        raise _damaged_error(path, "What its nodes are to be made from has been changed.")
    return plan


def _is_plan(path: str) -> bool:
    """Whether it can be replaced: a plan of any version, or an empty file."""
    if not Path(path).is_file():  # a pipe would never end
        return False
    try:
        data = Path(path).read_bytes()
        document = from_json(data) if data.strip() else {"changes": []}
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and "changes" in document


def _check_kind(path: str, data: bytes) -> None:
    """Raises PlanapplyError unless it is a plan of this version."""
    try:
        document = from_json(data)
    except ValueError as error:
        raise _damaged_error(path, f"It is no JSON: {error}.") from None
    if not isinstance(document, dict) or "changes" not in document:
        is_state = isinstance(document, dict) and "serial" in document
        raise PlanapplyError(
            f"{format_path(path)} is not a plan file",
            "It is a state: show it with --state." if is_state else _PLAN_AGAIN,
        )
    version = document.get("format_version")
    if version != FORMAT_VERSION:
        raise PlanapplyError(
            f"the plan file {format_path(path)} was written by another version of planapply",
            f"It has format {json.dumps(version)}, and this planapply reads format "
            f"{FORMAT_VERSION}. {_PLAN_AGAIN}",
        )


def _save_error(path: str, reason: str) -> PlanapplyError:
    return PlanapplyError(
        f"the plan can't be saved to {format_path(path)}: {reason}", "Name another file with --out."
    )


def _damaged_error(path: str, reason: str) -> PlanapplyError:
    return PlanapplyError(
        f"the plan file {format_path(path)} is damaged", f"{reason} {_PLAN_AGAIN}"
    )
