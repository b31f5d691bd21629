"""planapply state list, show, rm, pull and push"""

from typing import Annotated

import typer

from planapply.cli import terminal
from planapply.cli.open_workspace import open_state, print_event
from planapply.cli.options import (
    DEFAULT_FILE,
    File,
    Json,
    LockTimeout,
    Overrides,
    State,
    check_file_name,
)
from planapply.model.names import sort_key, to_ranges
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
    help="Look at the state, and change it by hand.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)


@app.command("list", short_help="Print the names of the nodes that the state knows.")
def list_(
    file: File = DEFAULT_FILE,
    json: Json = False,
    overrides: Overrides = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> None:
    """Print the names of the nodes that the state knows, one a line."""
    workspace = open_state(file, overrides, state)
    with lock_for_read(workspace, "state list", lock_timeout, print_event):
        found = workspace.read()
    names = sorted(found.nodes, key=sort_key)
    terminal.show_json(names) if json else terminal.show(line(name) for name in names)


@app.command(short_help="Show all that the state says of one node.")
def show(
    node: Annotated[str, typer.Argument(metavar="NODE", help="Such as scheduler, or cpu-3.")],
    file: File = DEFAULT_FILE,
    json: Json = False,
    overrides: Overrides = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> None:
    """Show all that the state says of one node: its VM, and what it was made from."""
    workspace = open_state(file, overrides, state)
    with lock_for_read(workspace, "state show", lock_timeout, print_event):
        found = workspace.read()
    find_node(found, node)
    if json:
        terminal.show_json(node_document(found, node))
    else:
        terminal.show(node_lines(found, node))


@app.command(short_help="Forget nodes without ending their VMs.")
def rm(
    nodes: Annotated[
        list[str],
        typer.Argument(metavar="NODE", help="Nodes, groups, or ranges such as 'cpu-[0..3]'."),
    ],
    file: File = DEFAULT_FILE,
    json: Json = False,
    overrides: Overrides = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> None:
    """Forget nodes without ending their VMs.

    A VM that runs on is found by its tags, and taken in again by the next plan.
    """
    from planapply.ops.state import remove

    removed = remove(open_state(file, overrides, state), nodes, lock_timeout, on_event=print_event)
    if json:
        terminal.show_json({name: record.vm for name, record in removed.items()})
        return
    terminal.show([line(f"The state has forgotten {' '.join(to_ranges(removed))}.")])
    vms = " ".join(record.vm for record in removed.values())
    terminal.print_message(
        f"Their VMs were left alone: {vms}. As long as they run, the next plan finds them by their "
        "tags and takes them in again; end them yourself if they are not to come back."
    )


@app.command(short_help="Copy the state to a file.")
def pull(
    target: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A new file, or an older copy of this state.",
            callback=check_file_name,
        ),
    ],
    file: File = DEFAULT_FILE,
    json: Json = False,
    overrides: Overrides = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> None:
    """Copy the state to a file of mode 0600; the cluster's TLS key is in it."""
    from planapply.ops import state as state_ops

    workspace = open_state(file, overrides, state)
    with lock_for_read(workspace, "state pull", lock_timeout, print_event):
        copied = state_ops.pull(workspace, target)
    _show_location(copied, target, json)


@app.command(short_help="Make a file the state.")
def push(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="As `state pull` wrote it, or a saved state.",
            callback=check_file_name,
        ),
    ],
    file: File = DEFAULT_FILE,
    json: Json = False,
    overrides: Overrides = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> None:
    """Make a file the state; refused for another cluster's, and for an older one."""
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
            "The cluster's TLS key is in every copy of it: keep none that you don't need."
        )
