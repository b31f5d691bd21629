"""What the tests of commands share."""

import re
import sys
from collections.abc import Callable
from typing import NamedTuple

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
"""For a process of its own."""

AGE = 3 * 3600 + 20 * 60 + 1.0
"""Seconds, which are "3 h 20 min" for as long as a test may take."""


class Result(NamedTuple):
    """What a command gave."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


def without_installed(err: str) -> str:
    """A message without the providers that happen to be installed."""
    return re.sub(r"(?<=Installed: ).*", "…", err)
