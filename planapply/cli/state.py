"""planapply state list, show, rm, pull, and push"""

from typing import Annotated

import typer

from planapply import terminal
from planapply.cli.complete import complete_nodes
from planapply.cli.open_workspace import open_state, print_event, read_state
from planapply.cli.options import (
    DEFAULT_FILE,
    File,
    Json,
    LockTimeout,
    Node,
    Overrides,
    State,
    check_file_name,
)
from planapply.model.names import format_names, sort_key
from planapply.model.state import State as ClusterState
from planapply.ops.logs import find_node, lock_for_read
from planapply.render.state_node import (
    moved_state_document,
    moved_state_line,
    node_document,
    node_lines,
)
from planapply.render.text import line

app = typer.Typer(
    help="Inspect or edit the state.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)


@app.command("list")
def list_(
    file: File = DEFAULT_FILE,
    json: Json = False,
    overrides: Overrides = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> None:
    """Print the names of the nodes in the state.

    One name per line.
    """
    found = read_state("state list", file, overrides, state, lock_timeout)
    names = sorted(found.nodes, key=sort_key)
    terminal.show_json(names) if json else terminal.show(line(name) for name in names)


@app.command()
def show(
    node: Node,
    file: File = DEFAULT_FILE,
    json: Json = False,
    overrides: Overrides = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> None:
    """Show the record of one node.

    The record has the node's VM and its configuration.
    """
    found = read_state("state show", file, overrides, state, lock_timeout)
    find_node(found, node)
    if json:
        terminal.show_json(node_document(found, node))
    else:
        terminal.show(node_lines(found, node))


@app.command()
def rm(
    nodes: Annotated[
        list[str],
        typer.Argument(
            metavar="NODE",
            help="Nodes, groups, or ranges such as 'cpu-[0-3]'.",
            autocompletion=complete_nodes,
        ),
    ],
    file: File = DEFAULT_FILE,
    json: Json = False,
    overrides: Overrides = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> None:
    """Remove nodes from the state; leave their VMs running.

    The next plan finds a VM that is still running by its tags, and adopts it again.
    """
    from planapply.ops.state import remove

    removed = remove(open_state(file, overrides, state), nodes, lock_timeout, on_event=print_event)
    if json:
        terminal.show_json({name: record.vm for name, record in removed.items()})
        return
    terminal.show([line(f"Removed {format_names(removed)} from the state.")])
    vms = ", ".join(record.vm for record in removed.values())
    terminal.print_message(
        f"The VMs were left running: {vms}. While they run, the next plan finds them by their tags "
        "and adopts them again; to prevent that, terminate them yourself."
    )


@app.command()
def pull(
    target: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="File to write: a new one, or an older copy of this state.",
            callback=check_file_name,
        ),
    ],
    file: File = DEFAULT_FILE,
    json: Json = False,
    overrides: Overrides = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> None:
    """Copy the state to a file.

    The file has mode 0600, since it contains the cluster's TLS key.
    """
    from planapply.ops import state as state_ops

    workspace = open_state(file, overrides, state)
    with lock_for_read(workspace, "state pull", lock_timeout, print_event):
        copied = state_ops.pull(workspace, target)
    _show_location(copied, target, json)


@app.command()
def push(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="File written by `state pull`, or a saved state.",
            callback=check_file_name,
        ),
    ],
    file: File = DEFAULT_FILE,
    json: Json = False,
    overrides: Overrides = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> None:
    """Replace the state with a file.

    Refuses the state of another cluster, and an older version of this one.
    """
    from planapply.ops import state as state_ops

    workspace = open_state(file, overrides, state)
    pushed = state_ops.push(workspace, source, lock_timeout, on_event=print_event)
    _show_location(pushed, workspace.store.location, json)


def _show_location(state: ClusterState, location: str, json: bool) -> None:
    if json:
        terminal.show_json(moved_state_document(state, location))
    else:
        terminal.show([moved_state_line(state, location)])
    if state.tls is not None:
        terminal.print_message(
            "Every copy of the state contains the cluster's TLS key: delete copies that you do not "
            "need."
        )
