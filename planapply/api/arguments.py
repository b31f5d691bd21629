"""Arguments of the functions: each one that is of a wrong type is a TypeError that names it."""

import os
from collections.abc import Collection, Mapping, Sequence
from numbers import Real
from typing import Any

from planapply.model.toml import format_value

Overrides = Mapping[str, Any] | Sequence[str]
"""Dotted keys with their values, or `KEY=VALUE` texts as in `--set`."""


def to_path(argument: str, value: object) -> str:
    """Return a path, or the URL of a state, as text."""
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str):
        raise TypeError(f"{argument} must be a path, not {value!r}")
    try:
        encoded = os.fsencode(text)
    except UnicodeEncodeError:
        raise ValueError(
            f"{argument} must be a path, not {value!r}, which is not valid Unicode"
        ) from None
    if not encoded:
        raise ValueError(f"{argument} cannot be empty")
    return text


def to_state(value: object) -> str | None:
    """Return the argument `state`, the path or URL of a state or None, as text."""
    return None if value is None else to_path("state", value)


def to_names(argument: str, names: Collection[str]) -> tuple[str, ...]:
    """Return names of nodes."""
    is_list = not isinstance(names, str | Mapping) and isinstance(names, Collection)
    if not is_list or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{argument} must be a list of names, not {names!r}")
    return tuple(names)


def to_texts(overrides: Overrides) -> tuple[str, ...]:
    """Return overrides as `KEY=VALUE` texts."""
    if isinstance(overrides, str):
        raise TypeError(
            "cannot use a text as overrides: pass a mapping, or a list of KEY=VALUE texts"
        )
    if isinstance(overrides, Mapping):
        for key, value in overrides.items():
            if not isinstance(key, str):
                raise TypeError(f"the keys of overrides must be texts, not {key!r}")
            if not _is_toml(value):
                raise TypeError(
                    f"overrides[{key!r}] must be a text, a number, True, False, a list, or a "
                    f"mapping, not {value!r}"
                )
        return tuple(f"{key}={format_value(value)}" for key, value in overrides.items())
    if not isinstance(overrides, Collection) or not all(isinstance(o, str) for o in overrides):
        raise TypeError(
            f"overrides must be a mapping, or a list of KEY=VALUE texts, not {overrides!r}"
        )
    return tuple(overrides)


def check_flags(**flags: object) -> None:
    """Check that each argument is True or False: the text "no" would count as True."""
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise TypeError(f"{name} must be True or False, not {value!r}")


def _is_toml(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_toml(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_toml, value))
    return isinstance(value, str | Real)
