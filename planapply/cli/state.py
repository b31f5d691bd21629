"""planapply state list, show, rm, pull and push"""

from typing import Annotated

import typer

from planapply.cli import terminal
from planapply.cli.open_workspace import open_state, tell
from planapply.cli.options import DEFAULT_FILE, File, Json, LockTimeout, Sets, State, a_file
from planapply.model.names import sort_key, to_ranges
from planapply.model.state import State as Found
from planapply.ops.logs import node_of, reading
from planapply.render.surgery import node_document, node_lines, place_document, place_line
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
    sets: Sets = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> None:
    """Print the names of the nodes that the state knows, one a line."""
    workspace = open_state(file, sets, state)
    with reading(workspace, "state list", lock_timeout, tell):
        found = workspace.read()
    names = sorted(found.nodes, key=sort_key)
    terminal.show_json(names) if json else terminal.show(line(name) for name in names)


@app.command(short_help="Show all that the state says of one node.")
def show(
    node: Annotated[str, typer.Argument(metavar="NODE", help="Such as scheduler, or cpu-3.")],
    file: File = DEFAULT_FILE,
    json: Json = False,
    sets: Sets = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> None:
    """Show all that the state says of one node: its VM, and what it was made from."""
    workspace = open_state(file, sets, state)
    with reading(workspace, "state show", lock_timeout, tell):
        found = workspace.read()
    node_of(found, node)
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
    sets: Sets = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> None:
    """Forget nodes without ending their VMs.

    A VM that runs on is found by its tags, and taken in again by the next plan.
    """
    from planapply.ops.state import remove

    forgotten = remove(open_state(file, sets, state), nodes, lock_timeout, tell=tell)
    if json:
        terminal.show_json({name: record.vm for name, record in forgotten.items()})
        return
    terminal.show([line(f"The state has forgotten {' '.join(to_ranges(forgotten))}.")])
    vms = " ".join(record.vm for record in forgotten.values())
    terminal.tell(
        f"Their VMs were left alone: {vms}. As long as they run, the next plan finds them by their "
        "tags and takes them in again; end them yourself if they are not to come back."
    )


@app.command(short_help="Copy the state to a file.")
def pull(
    target: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="A new file, or an older copy of this state.", callback=a_file
        ),
    ],
    file: File = DEFAULT_FILE,
    json: Json = False,
    sets: Sets = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> None:
    """Copy the state to a file of mode 0600; the cluster's TLS key is in it."""
    from planapply.ops import state as state_ops

    workspace = open_state(file, sets, state)
    with reading(workspace, "state pull", lock_timeout, tell):
        copied = state_ops.pull(workspace, target)
    _show_place(copied, target, json)


@app.command(short_help="Make a file the state.")
def push(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="As `state pull` wrote it, or a saved state.", callback=a_file
        ),
    ],
    file: File = DEFAULT_FILE,
    json: Json = False,
    sets: Sets = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> None:
    """Make a file the state; refused for another cluster's, and for an older one."""
    from planapply.ops import state as state_ops

    workspace = open_state(file, sets, state)
    pushed = state_ops.push(workspace, source, lock_timeout, tell=tell)
    _show_place(pushed, workspace.store.location, json)


def _show_place(state: Found, location: str, json: bool) -> None:
    if json:
        terminal.show_json(place_document(state, location))
    else:
        terminal.show([place_line(state, location)])
    if state.tls is not None:
        terminal.tell(
            "The cluster's TLS key is in every copy of it: keep none that you don't need."
        )
