"""refresh: compare a state with what exists in the cloud."""

from planapply.diff import Observation, RefreshResult, refresh
from planapply.fleet import ProviderClient
from planapply.model.state import State
from planapply.model.tags import cluster_tags
from planapply.ops.workspace import Workspace


def refresh_state(
    workspace: Workspace, client: ProviderClient, state: State, *, resources: bool = False
) -> RefreshResult:
    """Return the state corrected by what exists; change nothing. Raises PlanapplyError.

    With `resources`, supporting resources are compared, too.
    """
    tags = cluster_tags(state)
    vms = client.find(tags)
    found = {vm.id for vm in vms}
    # Without its tags, or terminated a moment ago: the cloud may still know the VM by its ID.
    vms_by_id = client.lookup([r.vm for r in state.nodes.values() if r.vm not in found])
    drift = {
        name: differs
        for name, resource in state.resources.items()
        if resources and resource.id and (differs := client.inspect(resource, tags))
    }
    observation = Observation(vms_by_id, drift, client.can_retag)
    now = workspace.clock.time()
    return refresh(state, vms, now, client.limits.consistency_delay, observation)


def read_refreshed(workspace: Workspace) -> RefreshResult:
    """Read the state, without the lock, and return it corrected by what exists.

    Raises PlanapplyError if there is no state.
    """
    state = workspace.read()
    return refresh_state(workspace, workspace.connect(state), state)
