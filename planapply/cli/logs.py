"""planapply logs"""

from collections.abc import Sequence
from typing import Annotated

import typer

from planapply import terminal
from planapply.cli.complete import complete_nodes
from planapply.cli.open_workspace import open_state, print_event
from planapply.cli.options import (
    DEFAULT_FILE,
    File,
    LockTimeout,
    Overrides,
    State,
    parse_number,
)
from planapply.model.diagnostics import PlanapplyError
from planapply.model.names import format_names
from planapply.ops.logs import lock_for_read
from planapply.ops.node_logs import follow_logs, read_logs, select_nodes


def command(
    nodes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NODE",
            help="Nodes, groups, or ranges such as 'cpu-[0-3]'. Default: all nodes.",
            autocompletion=complete_nodes,
        ),
    ] = None,
    lines: Annotated[
        int,
        typer.Option(
            "--lines",
            "-n",
            metavar="N",
            parser=parse_number,
            help="Number of lines to print for each node.",
        ),
    ] = 100,
    follow: Annotated[
        bool, typer.Option("--follow", help="Print new lines as they appear, until Ctrl-C.")
    ] = False,
    file: File = DEFAULT_FILE,
    overrides: Overrides = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> None:
    """Print the last lines of the logs of nodes; of several nodes, each line with the node's name.

    Works for a terminated node too, if the cloud keeps its log.
    """
    workspace = open_state(file, overrides, state)
    targets = nodes or []
    with lock_for_read(workspace, "logs", lock_timeout, print_event):
        selected = select_nodes(workspace.read(), targets)
        logs = [] if follow else read_logs(workspace, targets, lines)
    # A group that is followed may get more nodes.
    is_one = len(selected) == 1 and (not follow or selected == targets)
    width = 0 if is_one else max(map(len, selected))
    if follow:

        def show(name: str, new: Sequence[str]) -> bool:
            _show(name, new, width)
            return terminal.has_reader()

        followed = follow_logs(workspace, targets, lines, show)
        if terminal.has_reader():
            exist = "exists" if len(followed) == 1 else "exist"
            terminal.print_message(f"{format_names(followed)} no longer {exist}.")
        return
    for log in logs:
        _show(log.name, log.text.splitlines(), width)
    empty = [log.name for log in logs if not log.text and log.error is None]
    if empty:
        have = "has" if len(empty) == 1 else "have"
        terminal.print_message(f"{format_names(empty)} {have} printed nothing yet.")
    problems = [problem for log in logs if log.error for problem in log.error.diagnostics]
    if problems:
        raise PlanapplyError(diagnostics=tuple(problems))


def _show(name: str, lines: Sequence[str], width: int) -> None:
    prefix = f"{name:<{width}} | " if width else ""
    if lines:
        terminal.show_raw("".join(f"{prefix}{line}\n" for line in lines))
