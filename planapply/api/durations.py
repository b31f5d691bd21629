"""Durations as arguments: in Dask's forms, and those of a spec."""

from datetime import timedelta
from typing import TypeAlias

from planapply.model.quantities import parse_duration

Duration: TypeAlias = float | str | timedelta
"""Seconds, a text such as "10s" or "2 min", or a timedelta."""


def to_seconds(value: Duration, argument: str) -> float:
    """Return a duration in seconds; raise ValueError, which names the argument, if it is none."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if value == 0 or (isinstance(value, str) and value.strip().rstrip(" s") == "0"):
        return 0.0
    try:
        return parse_duration(value)
    except ValueError as error:
        problem, _, hint = str(error).partition("\n")
        raise ValueError(f"invalid {argument} {value!r}: {problem}. {hint}") from None
