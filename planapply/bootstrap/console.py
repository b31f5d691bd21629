"""The node's own lines in the text of a VM's console."""

from planapply.bootstrap.steps import END_MARKER, START_MARKER

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
