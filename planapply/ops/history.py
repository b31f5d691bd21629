"""history: the last changes of a cluster, and what it has cost."""

from planapply.model.history import History, shown_history
from planapply.ops.workspace import Workspace


def history(workspace: Workspace) -> History:
    """Return the changes that the state records, the newest last; send no request to the cloud.

    Raises PlanapplyError if there is no state.
    """
    holder = workspace.store.lock_info()
    state = (
        workspace.read()
    )  # after the lock: a change that ends between the two is not interrupted
    changes = shown_history(state.history, holder.id if holder else None)
    return History(cluster=state.cluster, changes=changes, spend=state.spend)
