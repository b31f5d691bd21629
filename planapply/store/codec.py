"""State <-> bytes. Nothing that can't be read in full is ever read in part."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from planapply.model.state import FORMAT_VERSION, State
from planapply.store.errors import StateInvalid, StateUnreadable

Migration = Callable[[dict[str, Any]], dict[str, Any]]

# From the key's version to the next one, on the raw document. A field's default is part of the
# format (defaults are not written), so changing one needs a migration as well.
MIGRATIONS: Mapping[int, Migration] = {}

_HEAD = ("format_version", "planapply_version", "lineage", "serial")
_MAX_PROBLEMS = 5


def encode(state: State) -> bytes:
    """JSON that `decode` reads back to an equal state; only the head has its defaults written."""
    head = to_json({name: getattr(state, name) for name in _HEAD}, indent=1)
    body = state.model_dump_json(indent=1, exclude_defaults=True, exclude=set(_HEAD)).encode()
    # `cluster` has no default: the body is never empty.
    return head.removesuffix(b"\n}") + b"," + body.removeprefix(b"{") + b"\n"


def decode(data: bytes, location: str, migrations: Mapping[int, Migration] = MIGRATIONS) -> State:
    """The state in `data`; an older format is migrated.

    Raises StateUnreadable, which says what and where; `location` is for its message only.
    """
    try:
        state = State.model_validate_json(data)
        if state.format_version == FORMAT_VERSION and "format_version" in state.model_fields_set:
            return state
    except ValidationError:
        pass  # The slow way says what is wrong.
    document = _migrate(_parse(data, location), location, migrations)
    try:
        # Through JSON again, since strict models take a list for a tuple only there.
        return State.model_validate_json(to_json(document, inf_nan_mode="constants"))
    except ValidationError as error:
        raise _invalid_error(location, _problems(error)) from None


def _parse(data: bytes, location: str) -> dict[str, Any]:
    if not data.strip():
        raise _invalid_error(location, "It is empty.")
    try:
        document = from_json(data)
    except ValueError as error:
        what = "It breaks off" if str(error).startswith("EOF") else "It is damaged, or no JSON"
        raise _invalid_error(location, f"{what} ({len(data)} bytes): {error}.") from None
    if isinstance(document, dict) and "changes" in document:
        raise StateInvalid(
            f"{location} is not a planapply state",
            f"It is a plan file: planapply apply {location}",
        )
    if not isinstance(document, dict) or type(document.get("format_version")) is not int:
        is_terraform = isinstance(document, dict) and "terraform_version" in document
        raise StateInvalid(
            f"{location} is not a planapply state",
            "It is Terraform's." if is_terraform else "It is JSON, but has no format_version.",
            " Name another place for the state: `state` in the spec, or --state.",
        )
    return document


def _migrate(
    document: dict[str, Any], location: str, migrations: Mapping[int, Migration]
) -> dict[str, Any]:
    version: int = document["format_version"]
    if version > FORMAT_VERSION:
        writer = document.get("planapply_version") or "a newer one"
        raise StateUnreadable(
            f"the state {location} was written by a newer planapply",
            f"It has format {version} (planapply {writer}); this planapply reads up to format "
            f"{FORMAT_VERSION}. Upgrade planapply:\n  pip install --upgrade planapply",
        )
    while version < FORMAT_VERSION:
        if version not in migrations:
            raise _invalid_error(location, f"No planapply ever wrote format_version {version}.")
        document = migrations[version](document)
        version += 1
    return {**document, "format_version": version}


def _problems(error: ValidationError) -> str:
    # Never the values: a key may be among them.
    problems = [
        f"  {'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    more = len(problems) - _MAX_PROBLEMS
    shown = problems[:_MAX_PROBLEMS] + ([f"  … and {more} more"] if more > 0 else [])
    return "\n".join(["It is JSON, but not as planapply writes it:", *shown])


def _invalid_error(location: str, problem: str) -> StateInvalid:
    return StateInvalid(
        f"the state {location} can't be read",
        problem,
        "\nIt was left as it is. Put a good copy back in its place; or move it away and "
        "rebuild it from the VMs' tags with `planapply recover`.",
    )
