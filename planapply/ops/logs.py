"""Commands that only read a state, and the console of a node."""

from contextlib import AbstractContextManager, nullcontext

from planapply.bootstrap import MAX_SHUTDOWN_LINES, extract_node_lines
from planapply.fleet import Listener
from planapply.model.diagnostics import PlanapplyError
from planapply.model.names import sort_key, to_ranges
from planapply.model.state import NodeRecord, State
from planapply.ops.workspace import Workspace


def lock_for_read(
    workspace: Workspace, purpose: str, timeout: float, on_event: Listener
) -> AbstractContextManager[object]:
    """Read while this is open: without a lock, or, with a `timeout` in seconds, once it is ours.

    Reading needs no lock; whoever waits for one wants to see the state after somebody's change.
    """
    if not timeout:
        return nullcontext()
    from planapply.ops.apply import lock  # imports asyncio, which `plan` can't afford

    return lock(workspace, purpose, timeout, on_event)


def console(workspace: Workspace, name: str, lines: int) -> str:
    """The last `lines` lines that a node printed.

    Raises PlanapplyError for a node that is not in the state, and where the provider has no console.
    """
    state = workspace.read()
    record = find_node(state, name)
    client = workspace.connect(state)
    if not client.has_console:
        raise PlanapplyError(
            f"the provider {state.provider!r} can't show what a node printed",
            f"Look at the VM {record.vm} with the cloud's own tools.",
        )
    text = client.console(record.vm, lines + MAX_SHUTDOWN_LINES)
    return extract_node_lines(text, lines)


def find_node(state: State, name: str) -> NodeRecord:
    """One node's record; raises PlanapplyError where there is none."""
    record = state.nodes.get(name)
    if record is not None:
        return record
    if any(name in intent.names for intent in state.intents.values()):
        raise PlanapplyError(
            f"{name} was asked for, and no answer is recorded",
            "It may exist; the next apply or destroy finds out first.",
        )
    nodes = " ".join(to_ranges(sorted(state.nodes, key=sort_key))) or "none"
    raise PlanapplyError(f"the state has no node {name!r}", f"Its nodes: {nodes}.")
