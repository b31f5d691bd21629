"""What of a console's text is a node's own."""

from planapply.bootstrap.steps import END_MARKER, START_MARKER

MAX_SHUTDOWN_LINES = 400
"""Lines that a machine may print after its node's end."""


def extract_node_lines(console: str, lines: int) -> str:
    """The last `lines` lines of a node: without the shutdown of its machine that may follow.

    Give it `MAX_SHUTDOWN_LINES` lines more than are wanted.
    """
    end = console.rfind(END_MARKER)
    if end > console.rfind(START_MARKER):
        console = console[: console.find("\n", end) + 1 or None]
    return "".join(console.splitlines(keepends=True)[-lines:]) if lines else ""
