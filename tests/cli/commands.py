"""Helpers for tests of commands."""

import json
import re
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

SPEC = """\
[cluster]
name = "demo"
provider = "fake"

[provider]
region = "mars"

[scheduler]
size = "small"

[workers.cpu]
count = 3
size = "large"
"""

COMMAND = [sys.executable, "-m", "planapply"]
"""The command in a separate process."""

AGE = 3 * 3600 + 20 * 60 + 1.0
"""Seconds; displayed as "3 h 20 min", however long a test takes."""


class Result(NamedTuple):
    """The result of a command."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


def without_installed(err: str) -> str:
    """Return a message without the list of installed providers, which varies."""
    return re.sub(r"(?<=Installed: ).*", "…", err)


def without_origin(err: str) -> str:
    """Return the message about an existing cluster on one line, without what varies."""
    text = re.sub(r"\d+ VMs", "N VMs", " ".join(err.split()))
    text = re.sub(r"on \d{4}-\d\d-\d\d \d\d:\d\d UTC", "on DATE", text)
    return re.sub(r"by \S+ with the state \S+\.json", "by WHO with the state STATE", text)


def events(out: str) -> list[dict[str, Any]]:
    """Return the events that a command printed, without their times, which are checked."""
    found: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    times = [datetime.fromisoformat(event.pop("time")) for event in found]
    assert times == sorted(times)
    assert all(event.pop("format_version") == 2 for event in found)
    return found
