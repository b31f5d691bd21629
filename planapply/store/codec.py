"""The encoding of states as JSON. A state that cannot be read completely is not read at all."""

import json
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from planapply.model.state import FORMAT_VERSION, State
from planapply.model.validation import describe_problem
from planapply.store.errors import StateInvalid, StateUnreadable
from planapply.version import __version__

Migration = Callable[[dict[str, Any]], dict[str, Any]]


def _rename_intent_fields(document: dict[str, Any]) -> dict[str, Any]:
    names = {"scheduler": "scheduler_address", "asked_at": "requested_at"}
    intents = document.get("intents")
    if not isinstance(intents, dict) or not all(isinstance(i, dict) for i in intents.values()):
        return document  # damaged, which the validation reports
    renamed = {
        token: {names.get(key, key): value for key, value in intent.items()}
        for token, intent in intents.items()
    }
    return {**document, "intents": renamed}


# Each migrates the raw document from the key's version to the next one. Defaults are not written, so
# they are part of the format: changing a default needs a migration as well.
MIGRATIONS: Mapping[int, Migration] = {1: _rename_intent_fields}

_HEAD = ("format_version", "planapply_version", "lineage", "serial")
_MAX_PROBLEMS = 5
_MAX_KEY = 80
UPGRADE = "Upgrade planapply:\n  pip install --upgrade planapply"


def encode(state: State) -> bytes:
    """Return JSON that `decode` reads as an equal state; only the head contains default values."""
    head = to_json({name: getattr(state, name) for name in _HEAD}, indent=1)
    body = state.model_dump_json(indent=1, exclude_defaults=True, exclude=set(_HEAD)).encode()
    # `cluster` has no default, so the body is never empty.
    return head.removesuffix(b"\n}") + b"," + body.removeprefix(b"{") + b"\n"


def decode(data: bytes, location: str, migrations: Mapping[int, Migration] = MIGRATIONS) -> State:
    """Return the state in `data`; an older format is migrated, in memory only.

    Raises StateUnreadable, which says what is wrong and where; `location` is used in its message only.
    """
    try:
        state = State.model_validate_json(data)
        if state.format_version == FORMAT_VERSION and "format_version" in state.model_fields_set:
            return state
    except ValidationError:
        pass  # The slow path below reports what is wrong.
    document = _migrate(_parse(data, location), location, migrations)
    try:
        # Through JSON again, because strict models accept a list for a tuple only in JSON.
        return State.model_validate_json(to_json(document, inf_nan_mode="constants"))
    except ValidationError as error:
        writer = document.get("planapply_version")
        if is_newer(writer):
            raise _newer_error(location, f"It was written by planapply {writer}.") from None
        unknown = [_format_place(p["loc"]) for p in error.errors(include_input=False)]
        if all(problem["type"] == "extra_forbidden" for problem in error.errors()):
            shown = ", ".join(unknown[:_MAX_PROBLEMS]) + ", …" * (len(unknown) > _MAX_PROBLEMS)
            raise _newer_error(location, f"It has unknown keys: {shown}.") from None
        raise _invalid_error(location, _problems(error)) from None


def is_newer(writer: object) -> bool:
    """Return whether a version of planapply, as a file names it, is newer than this one."""
    match = (
        re.match(r"([0-9]+)\.([0-9]+)(?:\.([0-9]+))?", writer) if isinstance(writer, str) else None
    )
    if match is None:
        return False
    own = tuple(int(part) for part in re.findall("[0-9]+", __version__)[:3])
    return tuple(int(part or 0) for part in match.groups()) > own


def _newer_error(location: str, why: str) -> StateUnreadable:
    return StateUnreadable(
        f"cannot read the state {location}: it was written by a newer planapply",
        f"{why} This is planapply {__version__}. {UPGRADE}",
    )


def _parse(data: bytes, location: str) -> dict[str, Any]:
    if not data.strip():
        raise _invalid_error(location, "It is empty.")
    try:
        document = from_json(data)
    except ValueError as error:
        what = "It is truncated" if str(error).startswith("EOF") else "It is damaged, or not JSON"
        raise _invalid_error(location, f"{what} ({len(data)} bytes): {error}.") from None
    if isinstance(document, dict) and "changes" in document:
        raise StateInvalid(
            f"{location} is not a planapply state",
            f"It is a plan file. To apply it: planapply apply {shlex.quote(location)}",
        )
    if not isinstance(document, dict) or type(document.get("format_version")) is not int:
        is_terraform = isinstance(document, dict) and "terraform_version" in document
        raise StateInvalid(
            f"{location} is not a planapply state",
            "It is a Terraform state."
            if is_terraform
            else "It is JSON, but has no format_version.",
            " Use another location for the state: `state` in the spec, or --state.",
        )
    return document


def _migrate(
    document: dict[str, Any], location: str, migrations: Mapping[int, Migration]
) -> dict[str, Any]:
    version: int = document["format_version"]
    if version > FORMAT_VERSION:
        writer = document.get("planapply_version") or "unknown"
        raise StateUnreadable(
            f"cannot read the state {location}: it was written by a newer planapply",
            f"The state has format {version} (planapply {writer}); this planapply supports up to format "
            f"{FORMAT_VERSION}. {UPGRADE}",
        )
    while version < FORMAT_VERSION:
        if version not in migrations:
            raise _invalid_error(
                location, f"No version of planapply writes format_version {version}."
            )
        document = migrations[version](document)
        version += 1
    return {**document, "format_version": version}


def _problems(error: ValidationError) -> str:
    # Never the values: a key may be among them.
    problems = [
        f"  {_format_place(problem['loc'])}: {describe_problem(problem)}"
        for problem in error.errors(include_url=False, include_input=False)
    ]
    more = len(problems) - _MAX_PROBLEMS
    shown = problems[:_MAX_PROBLEMS] + ([f"  … and {more} more"] if more > 0 else [])
    return "\n".join(["It is JSON, but not a valid state:", *shown])


def _format_place(loc: tuple[int | str, ...]) -> str:
    """Return a place in a state on one line; a key, which may be anything, is quoted if it is not plain."""
    parts = [str(part) for part in loc if part != "[key]"]
    return ".".join(
        part
        if part.isprintable() and len(part) <= _MAX_KEY
        else json.dumps(part[:_MAX_KEY]) + "…" * (len(part) > _MAX_KEY)
        for part in parts
    )


def _invalid_error(location: str, problem: str) -> StateInvalid:
    return StateInvalid(
        f"cannot read the state {location}",
        problem,
        "\nThe file is unchanged. Replace it with a good copy; or move it away, and rebuild the state "
        "from the VMs' tags with `planapply recover`.",
    )
