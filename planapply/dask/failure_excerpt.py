"""The lines that explain why a node failed, from everything that it printed."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from planapply.bootstrap import END_MARKER, START_MARKER

MAX_LINES = 6
SEARCHED_LINES = 400
"""Lines of a node's output that the first exception is searched in."""
_LOG_LINE = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d\S* - \S+ - [A-Z]+ - ")
_FRAME = re.compile(r"\s|[\^~]+$")  # frames, and marks below code whose indentation is lost
_LINKS = ("The above exception was the direct cause", "During handling of the above exception")
_TRACEBACK = "Traceback (most recent call last)"
_OWN = "planapply: "
_CONSOLE_PREFIX = re.compile(
    r"(?:\S+ login: )?(?:\[ *[0-9.]+\] )?(?:cloud-init|run|spot|echo)\[[0-9]+\]: ?"
)
"""The time and the name of the process, which systemd's journal writes before each line."""


def extract_causes(output: str) -> str:
    """Return a few lines of a node's output: the first exceptions, or else the last lines.

    A nanny reports at the end only that it failed, and repeats the worker's exception with its own.
    The exceptions to which the first one leads are kept, the cause of later ones if it is another, and
    the reason with which the node's script stopped.
    """
    lines = _node_lines(output)
    chains = list(_chains(lines))
    if not chains:
        return "\n".join([line for line in lines if line.strip()][-MAX_LINES:])
    kept = chains[0][: MAX_LINES - 2]
    if not set(chains[-1]) & set(chains[0]):
        kept += chains[-1][:1]
    return "\n".join(kept + _own_reason(lines))


def strip_console_prefix(line: str) -> str:
    """Return a line of a VM's console without the journal's prefix."""
    match = _CONSOLE_PREFIX.match(line)
    return line[match.end() :] if match else line


def _node_lines(output: str) -> list[str]:
    """Return the lines of the Dask process if it has started, or else of the node's script.

    On a VM's console, the other lines are those without the journal's prefix.
    """
    lines = output.splitlines()
    found = [(_CONSOLE_PREFIX.match(line), line) for line in lines]
    lines = [line[match.end() :] for match, line in found if match] or lines
    starts = [i for i, line in enumerate(lines) if line.startswith(START_MARKER)]
    return lines[starts[-1] :] if starts else lines


def _chains(lines: Sequence[str]) -> Iterator[list[str]]:
    """Yield the exceptions of each chain of tracebacks, the cause first, without their frames."""
    chain: list[str] = []
    in_frames = is_linked = False
    in_message = 0
    for line in lines:
        if line.startswith(_TRACEBACK):
            if chain and not is_linked:
                yield chain
                chain = []
            in_frames, is_linked, in_message = True, False, 0
        elif line.startswith(_LINKS):
            is_linked = True
        elif _LOG_LINE.match(line) or line.startswith(_OWN):
            in_message = 0  # another process wrote in between
        elif in_frames and not _FRAME.match(line) and line:
            chain.append(line)
            in_frames, in_message = False, 2
        elif in_message and line.strip():
            chain.append(line)
            in_message -= 1
        else:
            in_message = 0
    if chain:
        yield chain


def _own_reason(lines: Sequence[str]) -> list[str]:
    """Return the message with which the node's script gave up, if it did."""
    for reason, following in pairwise(lines):
        if following.startswith(END_MARKER) and reason.startswith(_OWN):
            return [reason]
    return []
