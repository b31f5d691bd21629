"""Values as people read them: as in a spec, on one line."""

import json
import math
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_UNITS = {"disk": "bytes", "memory": "bytes", "ttl": "seconds", "idle_timeout": "seconds"}
_STEPS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def value(of: Any, path: str = "") -> str:
    """A setting's value as TOML has it, on one line; `path` is where it stands in the spec, which
    tells the unit of some.
    """
    if of is None:
        return "(unset)"
    if isinstance(of, bool):
        return "true" if of else "false"
    if isinstance(of, str):
        return json.dumps(of, ensure_ascii=False)
    if isinstance(of, Mapping):
        return f"{{ {', '.join(items(of))} }}" if of else "{}"
    if isinstance(of, list | tuple):
        return f"[{', '.join(items(of))}]"
    unit = _UNITS.get(path) if math.isfinite(of) else None
    if unit is None:
        return str(of)
    return size(of) if unit == "bytes" else duration(of)


def items(of: Any) -> list[str]:
    """What a value consists of: a list's elements, a table's pairs, a text's lines; else itself."""
    if isinstance(of, Mapping):
        return [f"{_key(key)} = {value(item)}" for key, item in of.items()]
    if isinstance(of, list | tuple):
        return [value(item) for item in of]
    if isinstance(of, str) and "\n" in of:
        return of.splitlines()
    return [] if of is None else [value(of)]


def _key(name: object) -> str:
    text = str(name)
    return text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def size(of: float) -> str:
    """Bytes as "100 GiB"."""
    for power, unit in ((5, "PiB"), (4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if of >= 1024**power:
            return f"{of / 1024**power:.4g} {unit}"
    return f"{of:g} B"


def duration(of: float) -> str:
    """Seconds as "2 d 3 h", "12 min", "5 s": the two largest units that it has."""
    left = max(0, round(of))
    parts = []
    for seconds, unit in _STEPS:
        number, left = divmod(left, seconds)
        if number:
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2]) or "0 s"


def moment(of: float | None) -> str:
    """Seconds since the epoch as a date and a time, UTC."""
    return "" if of is None else f"{datetime.fromtimestamp(of, UTC):%Y-%m-%d %H:%M:%S} UTC"


def elapsed(of: float) -> str:
    """Seconds as on a stopwatch, "1:07"."""
    minutes, seconds = divmod(int(of), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def usd(amount: float | None, unknown: Collection[str], unit: str = "USD/h") -> str:
    """A sum of prices; "at least" where some are `unknown`."""
    if amount is None:
        return "unknown"
    return f"{'at least ' if unknown else ''}{amount:.2f} {unit}"


def price_notes(source: str, unknown: Collection[str]) -> str:
    """Whose prices they are and which are missing, in parentheses."""
    notes = [source] if source else []
    if unknown:
        notes.append(f"no price is known of {', '.join(sorted(unknown))}")
    return f" ({'; '.join(notes)})" if notes else ""


def place(provider: str, cloud: Mapping[str, object]) -> str:
    """Where a cluster is, in a few words: `ec2, eu-west-1`."""
    return ", ".join(
        [provider, *(str(cloud[key]) for key in ("driver", "region") if cloud.get(key))]
    )
