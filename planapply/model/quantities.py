"""Durations and sizes in the form that people write: "30 min", "100 GiB".

The units have the same meaning as in Dask (`dask.utils.parse_timedelta`, `parse_bytes`), which would
take `plan` too long to import; `min` is an addition.
"""

import math
import re
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

_NUMBER = re.compile(r"(?P<number>[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?)\s*(?P<unit>[A-Za-z]*)")

_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LONG_UNITS = {
    "nanosecond": "ns",
    "microsecond": "us",
    "millisecond": "ms",
    "second": "s",
    "minute": "m",
    "min": "m",
    "hour": "h",
    "day": "d",
    "week": "w",
}
_SECONDS |= {long: _SECONDS[short] for long, short in _LONG_UNITS.items()}
_SECONDS |= {f"{long}s": _SECONDS[short] for long, short in _LONG_UNITS.items()}

_BYTES = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgtp", start=1):
    _BYTES |= {_letter: 1000**_power, f"{_letter}b": 1000**_power}
    _BYTES |= {f"{_letter}i": 1024**_power, f"{_letter}ib": 1024**_power}

MAX_DURATION = 10 * 365 * 86400.0
MIN_SIZE = 1 << 20
MAX_SIZE = 1 << 60


def parse_duration(value: object) -> float:
    """Return a duration in seconds, from "30 min", "1.5 h", "90 s", or a number of seconds.

    Raises ValueError; the second line of its message says what is accepted.
    """
    hint = 'Write a number and a unit (s, min, h, d, w), such as "30 min".'
    number, unit = _split_unit(value, "a duration", hint)
    if unit.lower() not in _SECONDS and unit:
        raise ValueError(f"`{unit}` is not a unit of time\n{hint}")
    result = number * _SECONDS[unit.lower() or "s"]
    if not 0 < result <= MAX_DURATION:
        raise ValueError(f"a duration must be greater than 0 and at most 10 years\n{hint}")
    return result


def parse_size(value: object) -> int:
    """Return a size in bytes, from "100 GiB", "1.5 TB", or a number of bytes.

    Sizes below 1 MiB are refused, because anyone who writes `disk = 100` means gigabytes.
    Raises ValueError; the second line of its message says what is accepted.
    """
    hint = 'Write a number and a unit (MiB, GiB, TiB; MB, GB, TB), such as "100 GiB".'
    number, unit = _split_unit(value, "a size", hint)
    if unit.lower() not in _BYTES:
        raise ValueError(f"`{unit}` is not a unit of size\n{hint}")
    result = number * _BYTES[unit.lower()]
    if not MIN_SIZE <= result <= MAX_SIZE:
        raise ValueError(f"a size must be between 1 MiB and 1024 PiB\n{hint}")
    return int(result)


def _split_unit(value: object, quantity: str, hint: str) -> tuple[float, str]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value), ""
        except OverflowError:
            return math.inf, ""
    match = _NUMBER.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"this is not {quantity}\n{hint}")
    return float(match["number"]), match["unit"]


def format_bytes(size: int) -> str:
    """Return a size as people write it, such as `1.2 GiB`."""
    for unit, scale in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"


_SCHEMA = {"type": ["string", "number"]}
Duration = Annotated[float, BeforeValidator(parse_duration), WithJsonSchema(_SCHEMA)]
"""Seconds; "30 min" in a spec."""
Size = Annotated[int, BeforeValidator(parse_size), WithJsonSchema(_SCHEMA)]
"""Bytes; "100 GiB" in a spec."""
