"""state list, show, rm, pull and push: the state itself, by hand."""

from collections.abc import Sequence

from planapply.fleet import Journal, Listener
from planapply.model.diagnostics import PlanapplyError
from planapply.model.names import from_ranges, sort_key, to_ranges
from planapply.model.state import State
from planapply.ops.applying import lock
from planapply.ops.workspace import Workspace
from planapply.store import check_push, open_store


def remove(
    workspace: Workspace,
    targets: Sequence[str],
    lock_timeout: float = 0.0,
    *,
    tell: Listener = lambda event: None,
) -> list[str]:
    """Forget nodes without ending their VMs; gives their names.

    Raises PlanapplyError for a node that is not in the state.
    """
    with lock(workspace, "state rm", lock_timeout, tell):
        state = workspace.read()
        names = [name for target in targets for name in from_ranges([target])]
        missing = [name for name in names if name not in state.nodes]
        if missing:
            known = " ".join(to_ranges(sorted(state.nodes, key=sort_key))) or "none"
            raise PlanapplyError(
                f"the state has no node {' '.join(to_ranges(missing))}", f"Its nodes: {known}."
            )

        def forget(state: State) -> None:
            for name in names:
                del state.nodes[name]

        Journal(workspace.store, state).update(forget)
        return names


def pull(workspace: Workspace, file: str) -> State:
    """Copy the state to a file of mode 0600, secrets included.

    Raises PlanapplyError where the file is there already and can't be replaced by `push`'s rules.
    """
    state = workspace.read()
    target = open_store(file)
    check_push(target.read(), state)
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
    state = open_store(file).read()
    if state is None:
        raise PlanapplyError(f"there is no file {file}")
    with lock(workspace, "state push", lock_timeout, tell):
        check_push(workspace.store.read(), state)
        workspace.store.write(state)
    return state
