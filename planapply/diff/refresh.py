"""What the state says, set right by what the provider says exists."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from planapply.model.node import TAG_CONFIG, TAG_PREFIX, VM
from planapply.model.state import NodeRecord, State


@dataclass(frozen=True)
class RefreshResult:
    """The state as it should be, and what was found that nobody expected."""

    state: State
    """With what was adopted; intents whose VMs are all there are closed. A copy; records are
    shared.
    """
    gone: frozenset[str] = frozenset()
    """Nodes whose VM is not there any more, although it is old enough to be seen."""
    adopted: tuple[str, ...] = ()
    """Nodes that no state knew: their VMs carry this cluster's tags."""
    strays: tuple[VM, ...] = ()
    """VMs with this cluster's tags that can't be one of its nodes, such as a second one of a name.
    """
    observed: Mapping[str, VM] = field(default_factory=dict)
    """By node name; empty where the provider was not asked."""


def user_tags(vm: VM) -> dict[str, str]:
    """The tags that are not planapply's own."""
    return {
        key: value
        for key, value in vm.tags.items()
        if key != "Name" and not key.startswith(TAG_PREFIX)
    }


def refresh(
    state: State, vms: Sequence[VM] | None, now: float, consistency_delay: float
) -> RefreshResult:
    """Compare the state with what exists.

    `vms` is what the provider found by this cluster's tags, None where it was not asked; `now` in
    seconds since the epoch; `consistency_delay` is the time in seconds after which an existing VM is always
    shown.
    """
    if vms is None:
        return RefreshResult(state)
    by_id = {vm.id: vm for vm in vms}
    nodes = dict(state.nodes)
    observed = {node: by_id[r.vm] for node, r in nodes.items() if r.vm in by_id}
    for node, vm in observed.items():
        nodes[node] = nodes[node].with_addresses_of(vm)
    recorded = {record.vm for record in nodes.values()}
    gone = {
        node
        for node, record in nodes.items()
        if node not in observed and record.must_be_visible(now, consistency_delay)
    }
    adopted, strays = [], []
    for vm in sorted(vms, key=lambda vm: (vm.launched_at or 0.0, vm.id)):
        name = vm.name
        if vm.id in recorded or vm.status == "stopping":
            continue
        if name is None or name in nodes:
            # Even if the recorded VM seems to be gone: its record is what ends it if it is not.
            strays.append(vm)
            continue
        intent = state.intents.get(vm.batch)
        tags = state.configs[intent.config].tags if intent else user_tags(vm)
        config = intent.config if intent else vm.tags.get(TAG_CONFIG, "")
        nodes[name] = NodeRecord.from_vm(vm, config, tags, intent.asked_at if intent else now)
        observed[name] = vm
        adopted.append(name)
    batches = {node: record.batch for node, record in nodes.items()}
    intents = {
        token: intent
        for token, intent in state.intents.items()
        if any(batches.get(node) != token for node in intent.names)
    }
    return RefreshResult(
        state.model_copy(update={"nodes": nodes, "intents": intents}),
        frozenset(gone),
        tuple(adopted),
        tuple(strays),
        observed,
    )
