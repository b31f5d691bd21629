"""The document of a spec file, before its keys are validated: TOML without values that JSON cannot hold."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import tomli

from planapply.model.diagnostics import Diagnostic, PlanapplyError
from planapply.model.secrets import is_secret_path
from planapply.model.toml import KeyPath, format_key_path
from planapply.specfile.locate import find_duplicate
from planapply.specfile.problem import Problem
from planapply.specfile.textfile import hide_values, source_at

_MAX_DEPTH = 50
_CREDENTIAL = re.compile("key|secret|token|passw|credential|setup", re.IGNORECASE)
_KEY = re.compile(r"[ \t]*([\w.\"'-]{1,200})[ \t]{0,100}=")


def parse_document(text: str, file: str) -> dict[str, Any]:
    """Return the document in the text of a spec; raise PlanapplyError, which names it `file`."""
    if not text.strip():
        raise PlanapplyError(
            f"the spec {file} is empty", "Write one with `planapply init`.", code="spec_invalid"
        )
    if text.lstrip().startswith("{"):
        raise PlanapplyError(
            f"cannot read the spec {file}: it is JSON, not TOML",
            "If it is a state, pass it with --state instead of --file; in Python, use "
            "`planapply.Cluster.from_name` or `planapply.connect`.",
            code="spec_invalid",
        )
    advice = "Text needs quotes, and a table needs its [name]."
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        column, summary = error.colno, f"cannot read {file}: {error.msg[:1].lower()}{error.msg[1:]}"
        if duplicate := find_duplicate(text, error.lineno):
            column, summary = 1, f"`{format_key_path(duplicate)}` is given twice"
            advice = "Remove one of them."
        lines = text.split("\n")
        source = source_at(lines, file, (error.lineno, column))
        if _may_have_secret(lines, error.lineno):
            source = hide_values(source)
    except RecursionError:
        summary, source = f"cannot read {file}: it is nested too deeply", None
        advice = f"Use at most {_MAX_DEPTH} levels."
    except ValueError:  # Python's limit for the length of integers
        summary, source = f"cannot read {file}: a number in it is too long", None
        advice = "Write at most 18 digits."
    raise PlanapplyError(
        diagnostics=(
            Diagnostic(
                summary=summary,
                detail=f"{advice} The rest of the file was not read.",
                source=source,
            ),
        ),
        code="spec_invalid",
    )


def _may_have_secret(lines: Sequence[str], number: int) -> bool:
    """Return whether a line (from 1) of a file that is not TOML may show a secret.

    This is so if its key, or the key of the value that it is in, has such a name.
    """
    if _CREDENTIAL.search(lines[number - 1]):
        return True
    above = (match[1] for line in lines[number - 1 :: -1] if (match := _KEY.match(line)))
    return is_secret_path([part.strip(" \t\"'") for part in next(above, "").split(".")])


def remove_unsupported(value: Any, path: KeyPath, unsupported: list[Problem]) -> Any:
    """Return `value` without values that TOML supports and JSON does not; add them to `unsupported`."""
    name = format_key_path(path)
    if len(path) > _MAX_DEPTH:
        short = path[:4]
        unsupported.append(
            Problem(
                short,
                f"`{format_key_path(short)}` is nested too deeply",
                f"Use at most {_MAX_DEPTH} levels.",
            )
        )
    elif isinstance(value, str) and "\0" in value:
        unsupported.append(Problem(path, f"`{name}` has a zero byte", "Remove it."))
    elif isinstance(value, Mapping):
        if any("\0" in key for key in value):
            unsupported.append(
                Problem(
                    path,
                    f"{f'`{name}`' if path else 'the spec'} has a key with a zero byte",
                    "Remove the byte.",
                )
            )
        return {
            key: remove_unsupported(item, (*path, key), unsupported) for key, item in value.items()
        }
    elif isinstance(value, list):
        return [
            remove_unsupported(item, (*path, index), unsupported)
            for index, item in enumerate(value)
        ]
    elif isinstance(value, float) and not math.isfinite(value):
        unsupported.append(Problem(path, f"`{name}` cannot be {value}", "Write a finite number."))
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 1 << 63:
        unsupported.append(Problem(path, f"`{name}` is too large", "Write at most 18 digits."))
    elif not isinstance(value, str | int | float):
        unsupported.append(
            Problem(path, f"`{name}` cannot be a date or a time", f'Quote it: `"{value}"`.')
        )
    else:
        return value
    return None


def provider_name(document: Mapping[str, Any]) -> Any:
    """Return the provider's name, or whatever value the document has in its place."""
    cluster = document.get("cluster", {})
    return cluster.get("provider", "local") if isinstance(cluster, Mapping) else "local"
