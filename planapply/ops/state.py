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
from planapply.store import NoState, StateError, Store, check_push, open_store


def remove(
    workspace: Workspace,
    targets: Sequence[str],
    lock_timeout: float = 0.0,
    *,
    tell: Listener = lambda event: None,
) -> dict[str, NodeRecord]:
    """Forget nodes (names, groups or ranges) without ending their VMs; gives what was forgotten.

    As long as a VM carries the cluster's tags, the next plan finds it again. Raises PlanapplyError
    for a node that is not in the state.
    """
    with lock(workspace, "state rm", lock_timeout, tell):
        state = workspace.read()
        chosen = sorted(select(targets, state.nodes), key=sort_key)
        forgotten = {name: state.nodes[name] for name in chosen}

        def forget(state: State) -> None:
            for name in forgotten:
                del state.nodes[name]
            if SCHEDULER in forgotten:
                state.endpoint = None

        Journal(workspace.store, state).update(forget)
        return forgotten


def pull(workspace: Workspace, file: str) -> State:
    """Copy the state to a file of mode 0600, secrets included.

    Raises PlanapplyError where `file` holds anything but an older version of the same state.
    """
    target = _copy(file)
    state = workspace.read()
    try:
        there = target.read()
    except NoState as error:
        raise StateError(
            f"{target.location} is there already, and is no state",
            "Only an older copy of this state is replaced. Name another file.",
        ) from error
    if there == state:
        return state
    if there is not None and (there.lineage != state.lineage or there.serial >= state.serial):
        which = (
            "another state" if there.lineage != state.lineage else "a newer version of this state"
        )
        raise StateError(
            f"{target.location} holds {which}",
            f'It is of cluster "{there.cluster}" (lineage {there.lineage}, serial {there.serial}), '
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
    tell: Listener = lambda event: None,
) -> State:
    """Make the file's content the state.

    Raises PlanapplyError for another lineage, an older serial, and a file that is no state.
    """
    source = _copy(file)
    try:
        state = source.read()
    except NoState as error:
        raise PlanapplyError(
            f"{source.location} is no planapply state",
            f"{error.reason}\nName a file that `planapply state pull` wrote.",
        ) from error
    if state is None:
        raise PlanapplyError(
            f"there is no file {source.location}", "Name one that `planapply state pull` wrote."
        )
    with lock(workspace, "state push", lock_timeout, tell):
        there = workspace.store.read()
        check_push(there, state)
        if there != state:
            workspace.store.write(state)
    return state


def _copy(file: str) -> Store:
    """A copy of a state, which may have yet to be made; raises PlanapplyError for a folder."""
    if Path(file).expanduser().is_dir():
        raise PlanapplyError(f"{file} is a folder", "Name a file.")
    return open_store(file)
