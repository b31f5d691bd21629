"""Values as people read them: in the form of the spec, on one line."""

import math
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from planapply.model import toml
from planapply.model.history import Spend
from planapply.model.lifetimes import LIFETIME_KEYS

_UNITS = {
    "disk": "bytes",
    "memory": "bytes",
    **dict.fromkeys(("ttl", "idle_timeout", "join_timeout"), "seconds"),
    **{f"cluster.{key}": "seconds" for key in LIFETIME_KEYS},
}
_DURATION_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def format_value(value: Any, path: str = "") -> str:
    """Return a setting's value in the form of TOML, on one line.

    `path` is the setting's path in the spec, which determines the unit of some settings.
    """
    unit = _UNITS.get(path)
    if unit is None or not isinstance(value, int | float) or not math.isfinite(value):
        return toml.format_value(value)
    return format_size(value) if unit == "bytes" else format_duration(value)


def format_items(value: Any) -> list[str]:
    """Return the parts of a value: the elements of a list, the pairs of a table, or the lines of a text."""
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
    """Return bytes in the form "100 GiB"."""
    for power, unit in ((5, "PiB"), (4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if bytes_count >= 1024**power:
            return f"{bytes_count / 1024**power:.4g} {unit}"
    return f"{bytes_count:g} B"


def format_duration(total_seconds: float) -> str:
    """Return seconds in the form "2 d 3 h", "12 min", or "5 s", with the two largest units."""
    remaining = max(0, round(total_seconds))
    parts = []
    for seconds, unit in _DURATION_UNITS:
        quantity, remaining = divmod(remaining, seconds)
        if quantity:
            parts.append(f"{quantity} {unit}")
    return " ".join(parts[:2]) or "0 s"


def format_time(timestamp: float | None) -> str:
    """Return seconds since the epoch as date and time in UTC."""
    return (
        ""
        if timestamp is None
        else f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d %H:%M:%S} UTC"
    )


def format_elapsed(total_seconds: float) -> str:
    """Return seconds in the form "1:07"."""
    minutes, seconds = divmod(int(total_seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def format_usd(amount: float | None, unknown: Collection[str], unit: str = "USD/h") -> str:
    """Return a sum of prices, with "at least" if some are `unknown`."""
    if amount is None:
        return "unknown"
    return f"{'at least ' if unknown else ''}{amount:.2f} {unit}"


def format_total(spend: Spend) -> str:
    """Return what a cluster has cost in USD, with what is known about the precision."""
    precision = "at least " if spend.at_least else ""
    if spend.at_most:
        precision = "about " if spend.at_least else "at most "
    return f"{precision}{spend.usd:.2f}"


def format_price_notes(source: str, unknown: Collection[str]) -> str:
    """Return the source of the prices and the unknown prices, in parentheses."""
    notes = [source] if source else []
    if unknown:
        notes.append(f"no price known for {', '.join(sorted(unknown))}")
    return f" ({'; '.join(notes)})" if notes else ""


def format_location(provider: str, cloud: Mapping[str, object]) -> str:
    """Return the location of a cluster, such as `ec2, eu-west-1`."""
    return ", ".join(
        [provider, *(str(cloud[key]) for key in ("driver", "region") if cloud.get(key))]
    )
