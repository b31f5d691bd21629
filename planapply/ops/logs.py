"""The lock, and the node, of commands that only read."""

from contextlib import AbstractContextManager, nullcontext

from planapply.fleet import Listener
from planapply.model.diagnostics import PlanapplyError
from planapply.model.names import (
    format_names,
    from_ranges,
    sort_key,
    split_name,
    suggest_range,
)
from planapply.model.state import NodeRecord, State
from planapply.ops.workspace import Workspace


def lock_for_read(
    workspace: Workspace, purpose: str, timeout: float, on_event: Listener
) -> AbstractContextManager[object]:
    """Hold the state's lock if a `timeout` in seconds is given; otherwise hold no lock.

    Reading needs no lock. With a timeout, the command waits for another process's change and reads the
    state after it.
    """
    if not timeout:
        return nullcontext()
    from planapply.ops.apply import lock  # imports asyncio, which `plan` must not

    return lock(workspace, purpose, timeout, on_event)


def find_node(state: State, name: str) -> NodeRecord:
    """Return a node's record; raises PlanapplyError if there is none."""
    record = state.nodes.get(name)
    if record is not None:
        return record
    if any(name in intent.names for intent in state.intents.values()):
        raise PlanapplyError(
            f"the result of the launch request for {name} is unknown",
            "Its VM may exist. The next `planapply apply` or `planapply destroy` will find out.",
        )
    nodes = format_names(state.nodes) or "none"
    if valid := suggest_range(name):
        raise PlanapplyError(
            f"{name!r} is not a node",
            f"Name one node, not a range such as {valid}. Nodes: {nodes}.",
        )
    members = [n for n in from_ranges([name]) if n != name]
    members = members or [n for n in state.nodes if n != name and split_name(n)[0] == name]
    if members:
        one = min(set(members) & state.nodes.keys() or members, key=sort_key)
        raise PlanapplyError(
            f"{name!r} is not a node, but {len(members)} nodes",
            f"Name one node, such as {one}. Nodes: {nodes}.",
        )
    raise PlanapplyError(f"the state has no node {name!r}", f"Nodes: {nodes}.")
