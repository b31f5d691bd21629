"""The node's own lines in the text of a VM's console."""

import re

from planapply.bootstrap.steps import END_MARKER, START_MARKER
from planapply.model.end_reason import EndReason

MAX_SHUTDOWN_LINES = 400
"""Lines that a VM may print while it shuts down, after its node has stopped."""


def extract_node_lines(console: str, lines: int) -> str:
    """Return the last `lines` lines of a node, without those of a shutdown of its VM after them.

    `console` should have `MAX_SHUTDOWN_LINES` more lines than requested.
    """
    end = console.rfind(END_MARKER)
    if end > console.rfind(START_MARKER):
        console = console[: console.find("\n", end) + 1 or None]
    return "".join(console.splitlines(keepends=True)[-lines:]) if lines else ""


_END_REASON = re.compile(r"planapply: this (?:VM|cluster) ends: (\w+)\s*$", re.ASCII | re.MULTILINE)
_END_WORDS = {
    "idle_timeout": EndReason.IDLE,
    "no_client_timeout": EndReason.NO_CLIENT,
    "ttl": EndReason.TTL,
    "shutdown": EndReason.SHUTDOWN,
    "scheduler_gone": EndReason.SCHEDULER_GONE,
    "reclaimed": EndReason.RECLAIMED,
    "failed": EndReason.FAILED,
}


def find_end_reason(console: str) -> EndReason | None:
    """Return why a VM has ended, by the first line about it after the node's last start; None without one.

    The user's tasks write to the console, too. So a line selects one of the reasons, and nothing else of
    it is used.
    """
    start = max(console.rfind(START_MARKER), 0)
    for match in _END_REASON.finditer(console, start):
        if match[1] in _END_WORDS:
            return _END_WORDS[match[1]]
    return None
