"""Values as people read them: as in a spec, on one line."""

import math
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from planapply.model import toml

_UNITS = {"disk": "bytes", "memory": "bytes", "ttl": "seconds", "idle_timeout": "seconds"}
_DURATION_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def format_value(value: Any, path: str = "") -> str:
    """A setting's value as TOML has it, on one line; `path` is where it stands in the spec, which
    tells the unit of some.
    """
    unit = _UNITS.get(path)
    if unit is None or not isinstance(value, int | float) or not math.isfinite(value):
        return toml.format_value(value)
    return format_size(value) if unit == "bytes" else format_duration(value)


def format_items(value: Any) -> list[str]:
    """What a value consists of: a list's elements, a table's pairs, a text's lines; else itself."""
    if isinstance(value, Mapping):
        return [
            f"{toml.format_key(key)} = {toml.format_value(item)}" for key, item in value.items()
        ]
    if isinstance(value, list | tuple):
        return [toml.format_value(item) for item in value]
    if isinstance(value, str) and "\n" in value:
        return value.splitlines()
    return [] if value is None else [toml.format_value(value)]


def format_size(bytes_count: float) -> str:
    """Bytes as "100 GiB"."""
    for power, unit in ((5, "PiB"), (4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if bytes_count >= 1024**power:
            return f"{bytes_count / 1024**power:.4g} {unit}"
    return f"{bytes_count:g} B"


def format_duration(total_seconds: float) -> str:
    """Seconds as "2 d 3 h", "12 min", "5 s": the two largest units that it has."""
    remaining = max(0, round(total_seconds))
    parts = []
    for seconds, unit in _DURATION_UNITS:
        quantity, remaining = divmod(remaining, seconds)
        if quantity:
            parts.append(f"{quantity} {unit}")
    return " ".join(parts[:2]) or "0 s"


def format_time(timestamp: float | None) -> str:
    """Seconds since the epoch as a date and a time, UTC."""
    return (
        ""
        if timestamp is None
        else f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d %H:%M:%S} UTC"
    )


def format_elapsed(total_seconds: float) -> str:
    """Seconds as on a stopwatch, "1:07"."""
    minutes, seconds = divmod(int(total_seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def format_usd(amount: float | None, unknown: Collection[str], unit: str = "USD/h") -> str:
    """A sum of prices; "at least" where some are `unknown`."""
    if amount is None:
        return "unknown"
    return f"{'at least ' if unknown else ''}{amount:.2f} {unit}"


def format_price_notes(source: str, unknown: Collection[str]) -> str:
    """Whose prices they are and which are missing, in parentheses."""
    notes = [source] if source else []
    if unknown:
        notes.append(f"no price is known of {', '.join(sorted(unknown))}")
    return f" ({'; '.join(notes)})" if notes else ""


def format_location(provider: str, cloud: Mapping[str, object]) -> str:
    """Where a cluster is, in a few words: `ec2, eu-west-1`."""
    return ", ".join(
        [provider, *(str(cloud[key]) for key in ("driver", "region") if cloud.get(key))]
    )
