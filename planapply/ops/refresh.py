"""refresh: compare a state with what exists in the cloud."""

from planapply.diff import RefreshResult, refresh
from planapply.fleet import ProviderClient
from planapply.fleet.request import cluster_tags
from planapply.model.state import State
from planapply.ops.workspace import Workspace


def refresh_state(workspace: Workspace, client: ProviderClient, state: State) -> RefreshResult:
    """Return the state corrected by what exists; change nothing. Raises PlanapplyError."""
    vms = client.find(cluster_tags(state))
    return refresh(state, vms, workspace.clock.time(), client.limits.consistency_delay)


def read_refreshed(workspace: Workspace) -> RefreshResult:
    """Read the state, without the lock, and return it corrected by what exists.

    Raises PlanapplyError if there is no state.
    """
    state = workspace.read()
    return refresh_state(workspace, workspace.connect(state), state)
