"""state list, show, rm, pull, and push: manual changes to a state."""

import os
from collections.abc import Sequence

from planapply.diff import select
from planapply.fleet import Journal, Listener
from planapply.model.diagnostics import PlanapplyError
from planapply.model.names import SCHEDULER, sort_key
from planapply.model.paths import expand_home
from planapply.model.state import NodeRecord, State
from planapply.ops.apply import lock
from planapply.ops.record import Recorder
from planapply.ops.workspace import Workspace
from planapply.store import StateError, StateInvalid, Store, check_push, open_store


def remove(
    workspace: Workspace,
    targets: Sequence[str],
    lock_timeout: float = 0.0,
    *,
    on_event: Listener = lambda event: None,
) -> dict[str, NodeRecord]:
    """Remove nodes (names, groups, or ranges) from the state, and return their records.

    Their VMs keep running; the next plan finds them by their tags. Raises PlanapplyError for a node that
    is not in the state.
    """
    with lock(workspace, "state rm", lock_timeout, on_event) as held:
        state = workspace.read()
        chosen = sorted(select(targets, state.nodes), key=sort_key)
        dropped = {name: state.nodes[name] for name in chosen}

        def drop(state: State) -> None:
            for name in dropped:
                del state.nodes[name]
            # Their VMs are still planapply's: the next plan adopts them by these tokens.
            state.issue({record.batch: None for record in dropped.values()}, time)
            if SCHEDULER in dropped:
                state.endpoint = None
            if (
                state.spend is not None
            ):  # what their VMs cost is counted only if they are adopted again
                state.spend.at_least = True

        time = workspace.clock.time()
        what = f"state rm {' '.join(targets)}"
        # Their VMs keep running, so they do not count as destroyed.
        recorder = Recorder(what, held, workspace.clock, state, gone=dropped)
        Journal(workspace.store, state, recorder.stamp).update(drop)
        return dropped


def pull(workspace: Workspace, file: str) -> State:
    """Copy the state, including secrets, to a file of mode 0600, and return the state.

    Raises PlanapplyError if `file` contains anything other than an older version of the same state.
    """
    target = _open_copy(file)
    state = workspace.read()
    try:
        existing = target.read()
    except StateInvalid as error:
        raise StateError(
            f"cannot write {target.location}: the file exists and is not a state",
            "Choose another file. Only an older copy of the same state is overwritten.",
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
            f"cannot write {target.location}: the file contains {which}",
            f'The file belongs to cluster "{existing.cluster}" (lineage {existing.lineage}, serial '
            f'{existing.serial}), the state to cluster "{state.cluster}" (lineage {state.lineage}, '
            f"serial {state.serial}). Choose another file.",
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
    """Replace the state by the content of a file, and return it.

    Raises PlanapplyError for another lineage, for an older serial, and for a file that is not a state.
    """
    source = _open_copy(file)
    try:
        state = source.read()
    except StateInvalid as error:
        raise PlanapplyError(
            f"{source.location} is not a planapply state",
            f"{error.reason}\nPass a file that `planapply state pull` wrote.",
        ) from error
    if state is None:
        raise PlanapplyError(
            f"the file {source.location} does not exist",
            "Pass a file that `planapply state pull` wrote.",
        )
    with lock(workspace, "state push", lock_timeout, on_event):
        existing = workspace.store.read()
        check_push(existing, state)
        if existing != state:
            workspace.store.write(state)
    return state


def _open_copy(file: str) -> Store:
    """Return the store for a copy of a state, which may not exist; raise PlanapplyError for a folder."""
    path = expand_home(file)
    if os.path.isdir(path):
        raise PlanapplyError(f"{file} is a folder", "Pass the path of a file.")
    return open_store(path)
