"""Access to nested tables by dotted paths."""

from collections.abc import Mapping
from typing import Any


def get_path(table: Any, path: str) -> Any:
    """Return the value at a dotted path, or None."""
    for word in path.split(".") if path else ():
        if not isinstance(table, Mapping):
            return None
        table = table.get(word)
    return table if path else None


def nest(path: str, value: Any) -> dict[str, Any]:
    """Return a table with the value at a dotted path."""
    first, _, rest = path.partition(".")
    return {first: nest(rest, value) if rest else value}


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Return both tables merged: tables and lists are joined, other values are overridden."""
    both = dict(base)
    for key, value in override.items():
        old = both.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            both[key] = merge(old, value)
        elif isinstance(old, list) and isinstance(value, list):
            both[key] = [*old, *value]
        else:
            both[key] = value
    return both
