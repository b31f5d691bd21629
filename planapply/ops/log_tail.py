"""The lines of a node's log that are new, from a console that is read again and again."""

from collections.abc import Iterable, Sequence

from planapply.bootstrap import extract_node_lines
from planapply.dask.failure_excerpt import strip_console_prefix

MAX_REMEMBERED = 20_000
"""Maximum number of lines that are remembered, to show no line of both sources twice."""


class LogTail:
    """The log of one VM, from its console and from what the scheduler records of its workers.

    In a cloud, a console lags by minutes; the scheduler's record does not, but has only the log of a
    Dask process. A log line that both have is returned once.
    """

    def __init__(self, vm: str) -> None:
        self.vm = vm
        self._previous: list[str] = []
        self._on_console: dict[str, None] = {}
        self._in_record: dict[str, None] = {}
        self._has_record = False

    def start(self, console: str, lines: int) -> list[str]:
        """Return the last `lines` lines that the node printed."""
        self._previous = _complete_lines(console)
        _remember(self._on_console, self._previous)
        text = "".join(f"{line}\n" for line in self._previous)
        return extract_node_lines(text, lines).splitlines()

    def add_console(self, console: str) -> list[str]:
        """Return the lines that the console did not have before."""
        current = _complete_lines(console)
        if not current:  # some clouds return nothing for a moment
            return []
        new = new_lines(self._previous, current)
        self._previous = current
        _remember(self._on_console, new)
        return [line for line in new if strip_console_prefix(line) not in self._in_record]

    def add_record(self, recorded: Sequence[str], lines: int) -> list[str]:
        """Return the lines of the scheduler's record that were not returned before; at first, `lines`."""
        new = [
            line
            for line in recorded
            if line not in self._in_record and line not in self._on_console
        ]
        new = new if self._has_record else new[-lines:]
        self._has_record = True
        _remember(self._in_record, recorded)
        return new


def _complete_lines(console: str) -> list[str]:
    return [line.rstrip("\r") for line in console.split("\n")[:-1]]


def _remember(known: dict[str, None], lines: Iterable[str]) -> None:
    known.update(dict.fromkeys(strip_console_prefix(line) for line in lines))
    for line in list(known)[:-MAX_REMEMBERED]:
        del known[line]


def new_lines(previous: Sequence[str], current: Sequence[str]) -> list[str]:
    """Return the lines of `current` after those that it shares with `previous`.

    Both are the last lines of a growing text. The first line of `current` may be cut.
    """
    if current[: len(previous)] == previous:
        return list(current[len(previous) :])
    for shared in range(min(len(previous), len(current)), 0, -1):
        first = previous[-shared]
        is_first = first == current[0] or (shared > 1 and first.endswith(current[0]))
        if is_first and previous[len(previous) - shared + 1 :] == current[1:shared]:
            return list(current[shared:])
    return list(current)
