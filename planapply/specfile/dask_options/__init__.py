"""The options of distributed's own classes, from a table: a plan imports no distributed.

`make_table.py` generates the table from distributed's source, for each supported version.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

_QUANTITY = re.compile(r"(?P<number>[0-9]*(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)(?P<unit>[A-Za-z]*)")
_DIGITS = re.compile(r"[0-9]{1,5}")
_HOST = re.compile(r"[^\s/,@?#]{1,253}")
_HOST_AND_PORT = re.compile(r"[^:]*:([0-9]+)")
_INTERFACE = re.compile(r"(?!\.{1,2}$)[^\s/]{1,64}")
_SIZES = {"", "b", *(f"{letter}{rest}" for letter in "kmgtp" for rest in ("", "b", "i", "ib"))}
_LONG = ("second", "minute", "hour", "day", "week", "millisecond", "microsecond", "nanosecond")
_TIMES = {"", "s", "ms", "us", "ns", "m", "h", "d", "w", *_LONG, *(f"{unit}s" for unit in _LONG)}

Signature = Mapping[str, str]
"""The kind of each option."""


@cache
def _table() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("table.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table


def signatures(version: str | None, role: str) -> Sequence[Signature]:
    """Return the options of a class (`Scheduler`, `Worker`, `Nanny`) in one version of distributed.

    For a version that is None, or not in the table, returns those of every version in it.
    """
    table = _table()
    index = table["versions"].get(version)
    found = table["options"] if index is None else [table["options"][index]]
    return [options[role] for options in found]


def is_in_table(version: str | None) -> bool:
    """Return whether the options of this version of distributed are known."""
    return version in _table()["versions"]


def find_fault(kind: str, value: object) -> str | None:
    """Return what a value of this kind must be; None if it is, or if that cannot be said."""
    expected, is_valid = _KINDS.get(kind, ("", lambda _: True))
    return None if is_valid(value) else expected


def _is_int(value: object) -> bool:
    if isinstance(value, float):
        return value.is_integer()
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_int(value) or isinstance(value, float)


def _are(check: Callable[[object], bool], values: object) -> bool:
    return isinstance(values, list) and all(check(value) for value in values)


def _is_port(value: object) -> bool:
    if isinstance(value, str):
        return bool(_DIGITS.fullmatch(value)) and int(value) < 1 << 16
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 16


def _is_port_range(value: object) -> bool:
    if not isinstance(value, str):
        return False
    first, _, last = value.partition(":")
    return _is_port(first) and _is_port(last) and int(first) < int(last)


def _is_dashboard_address(value: object) -> bool:
    """Return whether `distributed.utils.clean_dashboard_address` can read one address."""
    if not isinstance(value, str):
        return _is_port(value)
    host, colon, port = value.partition(":")
    return not re.search(r"[\s/]", host) and (_is_port(port) if colon else bool(host))


def _is_quantity(value: object, units: set[str]) -> bool:
    """Return whether Dask can read a quantity in one of these units; it may lack its number."""
    if not isinstance(value, str):
        return _is_number(value) and value >= 0  # type: ignore[operator]
    match = _QUANTITY.fullmatch(value.replace(" ", ""))
    if not (match and match[0] and match["unit"].lower() in units):
        return False
    number = match["number"]
    return math.isfinite(float(number if re.search("[0-9]", number) else f"1{number}"))


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_host(value: object) -> bool:
    # An empty one would listen on every address. A protocol has an error of its own.
    if not isinstance(value, str):
        return False
    match = _HOST_AND_PORT.fullmatch(value)
    if match and not _is_port(match[1]):
        return False
    return bool(_HOST.fullmatch(value) or "://" in value)


def _is_interface(value: object) -> bool:
    return isinstance(value, str) and bool(_INTERFACE.fullmatch(value))


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


_KINDS: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "int": ("a whole number", _is_int),
    "count": ("a whole number of at least 0", lambda v: _is_int(v) and v >= 0),  # type: ignore[operator]
    "float": ("a number", _is_number),
    "str": ("a string", _is_text),
    "bool": ("true or false", lambda value: value in (True, False)),
    "table": ("a table", _is_table),
    "numbers": (
        "a table of numbers",
        lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
    ),
    "texts": ("a string or a list of strings", lambda v: _is_text(v) or _are(_is_text, v)),
    "hosts": ("an IP address or a host name", lambda v: _is_host(v) or _are(_is_host, v)),
    "interfaces": (
        'the name of a network interface, such as "eth0"',
        lambda v: _is_interface(v) or _are(_is_interface, v),
    ),
    "variables": (
        "a table of environment variables, whose names are non-empty and contain no `=`",
        lambda v: isinstance(v, dict) and not any(not name or "=" in name for name in v),
    ),
    "addresses": (
        'a port, or an address such as ":8787"',
        lambda v: (
            _are(_is_dashboard_address, v.split(",") if isinstance(v, str) else v) or _is_port(v)
        ),
    ),
    "port": ("a port", _is_port),
    "ports": (
        'a port, a range such as "9000:9100", or a list of numbers',
        lambda v: (
            _is_port(v) or _is_port_range(v) or _are(lambda x: _is_port(x) and not _is_text(x), v)
        ),
    ),
    "memory": (
        'a size such as "4 GiB", a fraction of the memory such as 0.5, or "auto"',
        lambda value: value == "auto" or _is_quantity(value, _SIZES),
    ),
    "duration": (
        'a number of seconds, or a duration such as "10 minutes"',
        lambda value: _is_quantity(value, _TIMES),
    ),
}
