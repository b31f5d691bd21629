"""Values and keys as they are written in TOML."""

import json
import re
from collections.abc import Mapping
from typing import Any

KeyPath = tuple[str | int, ...]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def format_value(value: Any) -> str:
    """Return a value on one line; None, which TOML does not have, as `(unset)`."""
    if value is None:
        return "(unset)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _format_string(value)
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{format_key(k)} = {format_value(v)}" for k, v in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(format_value(item) for item in value)}]"
    return str(value)


def format_key(name: str) -> str:
    """Return a key, quoted if necessary."""
    return name if _BARE_KEY.fullmatch(name) else _format_string(name)


def format_key_path(path: KeyPath) -> str:
    """Return a dotted key: `workers.cpu.zones[1]`, `workers."a b"`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{format_key(part)}"
    return text.removeprefix(".")


def _format_string(text: str) -> str:
    # A JSON string is also a TOML string, but TOML and terminals require more escapes.
    return "".join(
        c if c.isprintable() else f"\\U{ord(c):08x}" for c in json.dumps(text, ensure_ascii=False)
    )
