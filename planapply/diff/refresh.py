"""The refresh: the state, corrected by what the provider says exists."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from planapply.model.names import sort_key
from planapply.model.node import TAG_CONFIG, TAG_PREFIX, VM
from planapply.model.plan import DriftItem, DriftKind
from planapply.model.state import NodeRecord, State


@dataclass(frozen=True)
class RefreshResult:
    """The corrected state, and how it differs from the recorded one."""

    state: State
    """A copy that contains the adopted nodes, without the intents whose VMs all exist; the records of
    other nodes are shared."""
    gone: frozenset[str] = frozenset()
    """Nodes whose VM no longer exists, although it is old enough to be visible."""
    adopted: tuple[str, ...] = ()
    """Nodes that were not in the state, but whose VMs have this cluster's tags."""
    strays: tuple[VM, ...] = ()
    """VMs with this cluster's tags that are none of its nodes, such as a duplicate."""
    observed: Mapping[str, VM] = field(default_factory=dict)
    """Existing VMs by node; empty without a refresh."""

    @cached_property
    def drift(self) -> tuple[DriftItem, ...]:
        """Return every difference between the recorded state and what exists."""
        return tuple(self._drift())

    def _drift(self) -> Iterator[DriftItem]:
        for name in sorted(self.state.nodes, key=sort_key):
            kind = self._drift_kind(name)
            if kind is not None:
                yield DriftItem(name=name, kind=kind, vm=self.state.nodes[name].vm)
        for vm in self.strays:
            yield DriftItem(name=vm.id, kind=DriftKind.STRAY, vm=vm.id)

    def _drift_kind(self, name: str) -> DriftKind | None:
        if name in self.adopted:
            return DriftKind.ADOPTED
        if name in self.gone:
            return DriftKind.GONE
        vm = self.observed.get(name)
        if vm is None:
            return None  # no refresh, or too young to be visible
        if vm.status == "stopped":
            return DriftKind.STOPPED
        # A VM that planapply is terminating is as the state says.
        if vm.status == "stopping" and self.state.nodes[name].status != "terminating":
            return DriftKind.STOPPING
        return None


def user_tags(vm: VM) -> dict[str, str]:
    """Return the VM's tags other than planapply's own."""
    return {
        key: value
        for key, value in vm.tags.items()
        if key != "Name" and not key.startswith(TAG_PREFIX)
    }


def refresh(
    state: State, vms: Sequence[VM] | None, now: float, consistency_delay: float
) -> RefreshResult:
    """Compare the state with what exists.

    `vms` are the VMs that the provider found by this cluster's tags; None skips the refresh. `now` is in
    seconds since the epoch. `consistency_delay` is the time in seconds after which the cloud always shows
    an existing VM.
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
            # Also if the recorded VM seems to be gone: if it is not, its record is needed to terminate it.
            strays.append(vm)
            continue
        intent = state.intents.get(vm.batch)
        tags = state.configs[intent.config].tags if intent else user_tags(vm)
        config = intent.config if intent else vm.tags.get(TAG_CONFIG, "")
        nodes[name] = NodeRecord.from_vm(vm, config, tags, intent.requested_at if intent else now)
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
