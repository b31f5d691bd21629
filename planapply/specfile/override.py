"""`--set KEY=VALUE`: values that override those of the spec file."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import tomli

from planapply.model.diagnostics import Diagnostic
from planapply.model.secrets import mask_urls
from planapply.model.toml import KeyPath, format_key_path, format_value
from planapply.specfile.errors import is_public_key
from planapply.specfile.problem import summarize_value

_MAX_SHOWN = 200
"""Characters of an option that a message repeats."""
_HELP = "Pass a dotted key and a TOML value, such as `--set 'workers.cpu.count=3'`."


class Override(NamedTuple):
    """A `--set` option that was applied."""

    option: str
    """The option as a message shows it: KEY=VALUE, or KEY alone if the value may be a secret."""
    path: KeyPath


def apply_overrides(
    document: dict[str, Any], options: tuple[str, ...]
) -> tuple[list[Override], list[Diagnostic]]:
    """Set each value in `document`, later ones over earlier ones; return the errors as well."""
    applied, errors = [], []
    for argument in options:
        # Invalid bytes arrive as surrogates, which JSON cannot contain.
        option = argument.encode(errors="replace").decode()
        try:
            path, value = _parse(option)
            _set_value(document, path, value)
        except ValueError as error:
            summary, _, detail = str(error).partition("\n")
            shown = _show_invalid(option)
            errors.append(Diagnostic(summary=f"--set {shown}: {summary}", detail=detail or _HELP))
        else:
            applied.append(Override(_show(option, path, value), path))
    return applied, errors


def _show(option: str, path: KeyPath, value: Any) -> str:
    """Return a valid option for a message."""
    is_public = is_public_key(path) and not isinstance(value, Mapping)
    return _truncate(mask_urls(option) if is_public else format_key_path(path))


def _show_invalid(option: str) -> str:
    """Return an option that cannot be parsed for a message."""
    key, equals, value = option.partition("=")
    path = _parse_key(key)
    is_public = not value or (path is not None and is_public_key(path))
    return _truncate(option if is_public else f"{key}{equals}…")


def _truncate(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"


def parse_override_key(option: str) -> KeyPath:
    """Return the key of a KEY=VALUE option; empty if it has no valid key."""
    try:
        return _parse(option)[0]
    except ValueError:
        return ()


def _parse(option: str) -> tuple[tuple[str, ...], Any]:
    if "=" not in option:
        raise ValueError("it has no `=`")
    # A quoted key may contain a `=`: split at the first one with a valid key before it.
    splits = [i for i, character in enumerate(option) if character == "="]
    path = next((p for i in splits if (p := _parse_key(option[:i]))), None)
    if path is None:
        raise ValueError(f"{summarize_value(option[: splits[0]])} is not a key")
    text = option[next(i for i in splits if _parse_key(option[:i])) + 1 :].strip()
    return path, _parse_value(text, path)


def _parse_key(text: str) -> tuple[str, ...] | None:
    if "\n" in text:
        return None
    try:
        found: Any = tomli.loads(f"{text} = 0")
    except (ValueError, RecursionError):
        return None
    path = []
    while isinstance(found, dict) and len(found) == 1:
        [(key, found)] = found.items()
        path.append(key)
    return tuple(path) if found == 0 else None


def _parse_value(text: str, path: KeyPath) -> Any:
    try:
        document = tomli.loads(f"value = {text}")
    except (ValueError, RecursionError):
        document = {}
    if document.keys() != {"value"}:
        import shlex  # rarely needed

        if not is_public_key(path) or len(text) > _MAX_SHOWN:
            quoted = shlex.quote(f'{format_key_path(path)}="…"')
            raise ValueError(
                "its value is not a TOML value\n"
                f"If it is text, quote it, and protect the quotes from the shell: `--set {quoted}`"
            )
        quoted = shlex.quote(f"{format_key_path(path)}={format_value(text)}")
        raise ValueError(
            f"`{summarize_value(text)[1:-1]}` is not a TOML value\n"
            f"If it is text, quote it, and protect the quotes from the shell: `--set {quoted}`"
        )
    return document["value"]


def _set_value(document: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    table: Any = document
    for depth, key in enumerate(path[:-1], start=1):
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            shown = summarize_value(table) if is_public_key(path[:depth]) else "a value"
            raise ValueError(
                f"`{format_key_path(path[:depth])}` is {shown}, not a table\n"
                f"Set `{format_key_path(path[:depth])}` as a whole."
            )
    table[path[-1]] = value
