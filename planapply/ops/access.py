"""allow and ssh: networks that can reach the scheduler, and logging in to a node."""

from collections.abc import Sequence

from planapply.fleet import Journal, Listener
from planapply.model.diagnostics import PlanapplyError
from planapply.model.node import NodeConfig
from planapply.model.state import Resource, State
from planapply.ops.apply import lock
from planapply.ops.logs import find_node
from planapply.ops.workspace import Workspace


def allow(
    workspace: Workspace,
    network: str | None,
    lock_timeout: float = 0.0,
    *,
    on_event: Listener = lambda event: None,
) -> dict[str, Resource]:
    """Allow one more network (None: this machine) to reach the scheduler while the cluster exists.

    Return the resources that were changed. Raises PlanapplyError if the cluster has none; and if one
    no longer exists, after the network is recorded, so that the next apply creates it with that network.
    """
    with lock(workspace, "allow", lock_timeout, on_event):
        state = workspace.read()
        client = workspace.connect(state)
        resources = dict(state.resources)
        if not client.can_allow or not resources:
            raise PlanapplyError(
                f"cannot allow a network: cluster {state.cluster!r} has no firewall managed by planapply",
                "Allow the network in the security groups or the firewall that the cluster uses.",
            )
        for resource in resources.values():
            if resource.id is None:
                raise PlanapplyError(
                    f"cannot allow a network: the {resource.kind} of cluster {state.cluster!r} does not "
                    "exist",
                    "Create it with `planapply apply`, then run this command again.",
                )
        # First the cloud, then the state: a network in the state is never sent to the cloud again.
        changed = {name: client.allow(resource, network) for name, resource in resources.items()}

        def record(state: State) -> None:
            state.resources.update(changed)

        if changed != resources:
            Journal(workspace.store, state).update(record)
        for name, resource in changed.items():
            if resource.id is None:
                raise PlanapplyError(
                    f"{resource.kind} {resources[name].id} no longer exists",
                    "Run `planapply apply`: it creates another one that allows this network, too.",
                )
        return changed


def shell(workspace: Workspace, name: str, user: str | None) -> Sequence[str]:
    """Return the command that logs in to a node.

    Raises PlanapplyError if the node is not in the state, and if it cannot be reached.
    """
    state = workspace.read()
    record = find_node(state, name)
    client = workspace.connect(state)
    if not client.has_shell:
        raise PlanapplyError(
            f"cannot log in to {name}: the provider {state.provider!r} does not support it",
            f"Log in to VM {record.vm} with the cloud's own tools.",
        )
    config = state.configs.get(record.config) or NodeConfig(group=name, cls="unknown")
    return client.shell(record, config, user)
