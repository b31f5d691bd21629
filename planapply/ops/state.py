"""state list, show, rm, pull and push: the state itself, by hand."""

from collections.abc import Sequence
from pathlib import Path

from planapply.diff import select
from planapply.fleet import Journal, Listener
from planapply.model.diagnostics import PlanapplyError
from planapply.model.names import SCHEDULER, sort_key
from planapply.model.state import NodeRecord, State
from planapply.ops.apply import lock
from planapply.ops.workspace import Workspace
from planapply.store import StateError, StateInvalid, Store, check_push, open_store


def remove(
    workspace: Workspace,
    targets: Sequence[str],
    lock_timeout: float = 0.0,
    *,
    on_event: Listener = lambda event: None,
) -> dict[str, NodeRecord]:
    """Forget nodes (names, groups or ranges) without ending their VMs; gives what was forgotten.

    As long as a VM carries the cluster's tags, the next plan finds it again. Raises PlanapplyError
    for a node that is not in the state.
    """
    with lock(workspace, "state rm", lock_timeout, on_event):
        state = workspace.read()
        chosen = sorted(select(targets, state.nodes), key=sort_key)
        dropped = {name: state.nodes[name] for name in chosen}

        def drop(state: State) -> None:
            for name in dropped:
                del state.nodes[name]
            if SCHEDULER in dropped:
                state.endpoint = None

        Journal(workspace.store, state).update(drop)
        return dropped


def pull(workspace: Workspace, file: str) -> State:
    """Copy the state to a file of mode 0600, secrets included.

    Raises PlanapplyError where `file` holds anything but an older version of the same state.
    """
    target = _open_copy(file)
    state = workspace.read()
    try:
        existing = target.read()
    except StateInvalid as error:
        raise StateError(
            f"{target.location} is there already, and is no state",
            "Only an older copy of this state is replaced. Name another file.",
        ) from error
    if existing == state:
        return state
    if existing is not None and (
        existing.lineage != state.lineage or existing.serial >= state.serial
    ):
        which = (
            "another state"
            if existing.lineage != state.lineage
            else "a newer version of this state"
        )
        raise StateError(
            f"{target.location} holds {which}",
            f'It is of cluster "{existing.cluster}" (lineage {existing.lineage}, serial {existing.serial}), '
            f'this one of cluster "{state.cluster}" (lineage {state.lineage}, serial '
            f"{state.serial}). It was left as it is; name another file.",
        )
    target.write(state)
    return state


def push(
    workspace: Workspace,
    file: str,
    lock_timeout: float = 0.0,
    *,
    on_event: Listener = lambda event: None,
) -> State:
    """Make the file's content the state.

    Raises PlanapplyError for another lineage, an older serial, and a file that is no state.
    """
    source = _open_copy(file)
    try:
        state = source.read()
    except StateInvalid as error:
        raise PlanapplyError(
            f"{source.location} is no planapply state",
            f"{error.reason}\nName a file that `planapply state pull` wrote.",
        ) from error
    if state is None:
        raise PlanapplyError(
            f"there is no file {source.location}", "Name one that `planapply state pull` wrote."
        )
    with lock(workspace, "state push", lock_timeout, on_event):
        existing = workspace.store.read()
        check_push(existing, state)
        if existing != state:
            workspace.store.write(state)
    return state


def _open_copy(file: str) -> Store:
    """A copy of a state, which may have yet to be made; raises PlanapplyError for a folder."""
    if Path(file).expanduser().is_dir():
        raise PlanapplyError(f"{file} is a folder", "Name a file.")
    return open_store(file)
