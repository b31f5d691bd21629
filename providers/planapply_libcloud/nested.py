"""Tables in tables, by dotted words."""

from collections.abc import Mapping
from typing import Any


def at(table: Any, path: str) -> Any:
    """What stands there, or None."""
    for word in path.split(".") if path else ():
        if not isinstance(table, Mapping):
            return None
        table = table.get(word)
    return table if path else None


def nest(path: str, value: Any) -> dict[str, Any]:
    """A table with that value at that place."""
    first, _, rest = path.partition(".")
    return {first: nest(rest, value) if rest else value}


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both; tables and lists are joined, of other values those `above` win."""
    both = dict(below)
    for key, value in above.items():
        old = both.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            both[key] = merged(old, value)
        elif isinstance(old, list) and isinstance(value, list):
            both[key] = [*old, *value]
        else:
            both[key] = value
    return both


def paths(table: Mapping[str, Any], above: str = "") -> set[str]:
    """The dotted words of all that stands in it."""
    found: set[str] = set()
    for key, value in table.items():
        found |= paths(value, f"{above}{key}.") if isinstance(value, Mapping) else {above + key}
    return found
