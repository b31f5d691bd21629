"""allow and ssh: who reaches the scheduler, and how to reach a node."""

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
    """Let one more network (None: this machine) reach the scheduler, as long as the cluster lasts.

    Gives the resources that let it in. Raises PlanapplyError where the provider has none, and for
    those that are gone, after the network is recorded for the apply that makes them again.
    """
    with lock(workspace, "allow", lock_timeout, on_event):
        state = workspace.read()
        client = workspace.connect(state)
        resources = dict(state.resources)
        if not client.can_allow or not resources:
            raise PlanapplyError(
                f"cluster {state.cluster!r} has nothing of its own through which networks are "
                "let in",
                "Change who may reach its scheduler where that is kept: in the security groups or "
                "the firewall that it was given.",
            )
        for resource in resources.values():
            if resource.id is None:
                raise PlanapplyError(
                    f"the {resource.kind} of cluster {state.cluster!r} is not there",
                    "`planapply apply` makes it; repeat this then.",
                )
        # First the cloud, then the state: what is written as allowed is never asked for again.
        changed = {name: client.allow(resource, network) for name, resource in resources.items()}

        def record(state: State) -> None:
            state.resources.update(changed)

        if changed != resources:
            Journal(workspace.store, state).update(record)
        for name, resource in changed.items():
            if resource.id is None:
                raise PlanapplyError(
                    f"the {resource.kind} {resources[name].id} is gone: somebody has removed it",
                    "`planapply apply` makes another, which lets this network in, too.",
                )
        return changed


def shell(workspace: Workspace, name: str, user: str | None) -> Sequence[str]:
    """The command that logs in to a node.

    Raises PlanapplyError for a node that is not in the state, and where there is no way to it.
    """
    state = workspace.read()
    record = find_node(state, name)
    client = workspace.connect(state)
    if not client.has_shell:
        raise PlanapplyError(
            f"the provider {state.provider!r} knows no way to log in to a node",
            f"Reach the VM {record.vm} with the cloud's own tools.",
        )
    config = state.configs.get(record.config) or NodeConfig(group=name, cls="unknown")
    return client.shell(record, config, user)
