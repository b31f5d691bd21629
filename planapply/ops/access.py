"""allow and ssh: networks that can reach the scheduler, and logging in to a node."""

from collections.abc import Sequence

from planapply.fleet import Journal, Listener
from planapply.model.diagnostics import PlanapplyError
from planapply.model.event import Event
from planapply.model.node import NodeConfig
from planapply.model.state import Resource, State
from planapply.ops.apply import lock
from planapply.ops.logs import find_node
from planapply.ops.preflight import open_access_warning, unsafe_access_error
from planapply.ops.record import Recorder
from planapply.ops.workspace import Workspace
from planapply.providerkit import ME, open_networks, parse_network, wide_networks

_LOCAL_NODES = "Nodes of `local` are processes on this machine."


def allow(
    workspace: Workspace,
    network: str | None,
    lock_timeout: float = 0.0,
    *,
    remove: bool = False,
    on_event: Listener = lambda event: None,
) -> dict[str, Resource]:
    """Allow one more network (None: this machine) to reach the scheduler while the cluster exists.

    `remove` removes a network that was added before. Return the resources that were changed. Raises
    PlanapplyError if the cluster has none, or if anyone could then run code on the nodes; and if one no
    longer exists, after the change is recorded, so that the next apply creates it.
    """
    with lock(workspace, "allow", lock_timeout, on_event) as held:
        state = workspace.read()
        client = workspace.connect(state)
        resources = dict(state.resources)
        if not client.can_allow or not resources:
            raise PlanapplyError(
                f"cannot allow a network: cluster {state.cluster!r} has no firewall managed by planapply",
                _LOCAL_NODES
                if state.provider == "local"
                else "Allow the network in the security groups or the firewall that the cluster uses.",
            )
        for resource in resources.values():
            if resource.id is None:
                raise PlanapplyError(
                    f"cannot allow a network: the {resource.kind} of cluster {state.cluster!r} does not "
                    "exist",
                    "Create it with `planapply apply`, then run this command again.",
                )
        if not remove and network is not None:
            _check_network(network, state, on_event)
        change = client.disallow if remove else client.allow
        # First the cloud, then the state: a network in the state is never sent to the cloud again.
        changed = {name: change(resource, network) for name, resource in resources.items()}

        def record(state: State) -> None:
            state.resources.update(changed)

        if changed != resources:
            what = f"allow {network or ME}{' --remove' if remove else ''}"
            recorder = Recorder(what, held, workspace.clock, state)
            Journal(workspace.store, state, recorder.stamp).update(record)
        for name, resource in changed.items():
            if resource.id is None:
                raise PlanapplyError(
                    f"{resource.kind} {resources[name].id} no longer exists",
                    "Run `planapply apply`: it creates another one "
                    + ("without this network." if remove else "that allows this network, too."),
                )
        return changed


def _check_network(network: str, state: State, on_event: Listener) -> None:
    """Report a network that is a large part of the internet; without TLS, raise PlanapplyError."""
    try:
        added = [parse_network(network)] if network != ME else []
        present = [n for r in state.resources.values() for n in open_networks(r.detail)]
        wide = wide_networks(added) or (wide_networks([*present, *added]) if added else [])
    except ValueError:
        return  # the provider reports it
    if not set(added) & set(wide):
        return  # it adds nothing to what is open already
    if wide and state.tls is None:
        raise PlanapplyError(diagnostics=(unsafe_access_error(wide),))
    if wide:
        problem = open_access_warning(wide)
        on_event(Event(event="note", message=f"{problem.summary}. {problem.detail}"))


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
            _LOCAL_NODES
            if state.provider == "local"
            else f"Log in to VM {record.vm} with the cloud's own tools.",
        )
    config = state.configs.get(record.config) or NodeConfig(group=name, cls="unknown")
    return client.shell(record, config, user)
