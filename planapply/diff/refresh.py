"""The refresh: the state, corrected by what the provider says exists."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from planapply.diff.tags import changed_tags, expected_tags
from planapply.model.end_reason import EndReason
from planapply.model.endpoint import current_endpoint
from planapply.model.names import SCHEDULER, sort_key
from planapply.model.node import TAG_CONFIG, VM, is_own_tag
from planapply.model.plan import DriftItem, DriftKind, FieldChange, ResourceDrift
from planapply.model.state import NodeRecord, State


@dataclass(frozen=True)
class Observation:
    """Facts about what exists, besides the VMs that were found by the cluster's tags."""

    vms_by_id: Mapping[str, VM | None] = field(default_factory=dict)
    """Recorded VMs that were not found by their tags; None for a terminated VM."""
    resources: Mapping[str, ResourceDrift] = field(default_factory=dict)
    """Supporting resources that differ, by name."""
    can_retag: bool = False
    """Whether planapply's own tags can be restored; otherwise they are not compared."""


@dataclass(frozen=True)
class RefreshResult:
    """The corrected state, and how it differs from the recorded one."""

    state: State
    """A copy that contains the adopted nodes, without the intents whose VMs all exist; the records of
    other nodes are shared."""
    gone: frozenset[str] = frozenset()
    """Nodes whose VM no longer exists, although it is old enough to be visible."""
    adopted: tuple[str, ...] = ()
    """Nodes that were not in the state, but whose VMs planapply has launched."""
    strays: tuple[VM, ...] = ()
    """VMs that planapply has launched, but that are none of its nodes, such as a duplicate."""
    unknown: tuple[VM, ...] = ()
    """VMs with this cluster's tags that planapply did not launch."""
    observed: Mapping[str, VM] = field(default_factory=dict)
    """Existing VMs by node; empty without a refresh."""
    addresses: Mapping[str, tuple[FieldChange, ...]] = field(default_factory=dict)
    """Changed addresses by node."""
    tags: Mapping[str, tuple[FieldChange, ...]] = field(default_factory=dict)
    """Tags that planapply set and that were changed or removed, by node."""
    groups: Mapping[str, FieldChange] = field(default_factory=dict)
    """Security groups of the VMs that are not in exactly that of the cluster, by node."""
    resources: Mapping[str, ResourceDrift] = field(default_factory=dict)
    """Supporting resources that differ from what planapply created, by name."""
    ended: Mapping[str, EndReason] = field(default_factory=dict)
    """Why VMs have ended, by node; empty unless the provider was asked."""

    @cached_property
    def lost(self) -> tuple[str, ...]:
        """Return the nodes whose VM has ended, or is about to, and not because of planapply."""
        kinds = (DriftKind.GONE, DriftKind.STOPPED, DriftKind.STOPPING)
        return tuple(
            name
            for name in sorted(self.state.nodes, key=sort_key)
            if self.state.nodes[name].status != "terminating" and self._drift_kind(name) in kinds
        )

    @cached_property
    def drift(self) -> tuple[DriftItem, ...]:
        """Return every difference between the recorded state and what exists."""
        return tuple(self._drift())

    def _drift(self) -> Iterator[DriftItem]:
        for name, resource in sorted(self.resources.items()):
            kind = DriftKind.CHANGED if resource.exists else DriftKind.DELETED
            yield DriftItem(name=name, kind=kind, fields=resource.fields)
        for name in sorted(self.state.nodes, key=sort_key):
            vm = self.state.nodes[name].vm
            lost = self._drift_kind(name)
            if lost is not None:
                yield DriftItem(name=name, kind=lost, vm=vm, ended=self.ended.get(name))
            elif fields := self.addresses.get(name):
                yield DriftItem(name=name, kind=DriftKind.ADDRESS, vm=vm, fields=fields)
            if lost is None and (fields := self.tags.get(name)):
                yield DriftItem(name=name, kind=DriftKind.CHANGED, vm=vm, fields=fields)
            if lost is None and (moved := self.groups.get(name)):
                yield DriftItem(name=name, kind=DriftKind.REGROUPED, vm=vm, fields=(moved,))
        for other in self.strays:
            yield DriftItem(name=other.id, kind=DriftKind.STRAY, vm=other.id)
        for other in self.unknown:
            yield DriftItem(name=other.id, kind=DriftKind.UNKNOWN, vm=other.id)

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
    return {key: value for key, value in vm.tags.items() if not is_own_tag(key)}


def refresh(
    state: State,
    vms: Sequence[VM] | None,
    now: float,
    consistency_delay: float,
    observation: Observation = Observation(),
) -> RefreshResult:
    """Compare the state with what exists.

    `vms` are the VMs that the provider found by this cluster's tags; None skips the refresh. `now` is in
    seconds since the epoch. `consistency_delay` is the time in seconds after which the cloud always shows
    an existing VM.
    """
    if vms is None:
        return RefreshResult(state)
    by_id = {id: vm for id, vm in observation.vms_by_id.items() if vm} | {vm.id: vm for vm in vms}
    nodes = dict(state.nodes)
    observed = {node: by_id[r.vm] for node, r in nodes.items() if r.vm in by_id}
    for node, vm in observed.items():
        nodes[node] = nodes[node].with_addresses_of(vm)
    recorded = {record.vm for record in nodes.values()}
    gone = {
        node
        for node, record in nodes.items()
        if node not in observed
        and (record.vm in observation.vms_by_id or record.must_be_visible(now, consistency_delay))
    }
    addresses = _changed_endpoint(state) | _changed_addresses(state.nodes, nodes)
    tags = {
        node: fields
        for node, vm in observed.items()
        if nodes[node].status != "terminating"
        and (fields := _changed_tags(state, node, vm, observation.can_retag))
    }
    batches = state.batches
    adopted, strays, unknown = [], [], []
    for vm in sorted(vms, key=lambda vm: (vm.launched_at or 0.0, vm.id)):
        name = vm.name
        if vm.id in recorded or vm.status == "stopping":
            continue
        if vm.batch not in batches or not vm.has_token(vm.batch):
            unknown.append(vm)
            continue
        intent = state.intents.get(vm.batch)
        if name is None or name in nodes or (intent and name not in intent.names):
            # Also if the recorded VM seems to be gone: if it is not, its record is needed to terminate it.
            strays.append(vm)
            continue
        user = state.configs[intent.config].tags if intent else user_tags(vm)
        config = intent.config if intent else _tagged_config(vm)
        nodes[name] = NodeRecord.from_vm(
            vm,
            config,
            user,
            intent.requested_at if intent else now,
            intent.lifetimes if intent else None,
            intent.secrets if intent else {},
        )
        observed[name] = vm
        adopted.append(name)
    node_batches = {node: record.batch for node, record in nodes.items()}
    intents = {
        token: intent
        for token, intent in state.intents.items()
        if any(node_batches.get(node) != token for node in intent.names)
    }
    return RefreshResult(
        state.model_copy(update={"nodes": nodes, "intents": intents}),
        frozenset(gone),
        tuple(adopted),
        tuple(strays),
        tuple(unknown),
        observed,
        addresses,
        tags,
        _changed_groups(state, observed, observation.resources),
        observation.resources,
    )


def _changed_groups(
    state: State, observed: Mapping[str, VM], resources: Mapping[str, ResourceDrift]
) -> dict[str, FieldChange]:
    """Return the groups of VMs that are not in exactly the cluster's own; none if it has no group."""
    own = {resource.id for resource in state.resources.values() if resource.id}
    if not own or not all(differs.exists for differs in resources.values()):
        return {}
    expected = ", ".join(sorted(own))
    return {
        node: FieldChange(
            path="security_groups",
            before=", ".join(vm.groups) or None,
            after=expected,
            forces_replacement=False,
        )
        for node, vm in observed.items()
        if vm.groups is not None and vm.is_active and {*vm.groups} != own
    }


def _changed_addresses(
    before: Mapping[str, NodeRecord], after: Mapping[str, NodeRecord]
) -> dict[str, tuple[FieldChange, ...]]:
    """Return the addresses that were known and are now others; the first address of a launched VM is none.

    A node that has joined had an address and a port: they were removed from the state.
    """
    found = {}
    for name, old in before.items():
        fields = tuple(
            FieldChange(path=key, before=value, after=new, forces_replacement=False)
            for key in ("private_address", "public_address", "port")
            if (value := getattr(old, key)) != (new := getattr(after[name], key))
            and (value is not None or (old.status == "joined" and key != "public_address"))
        )
        if fields:
            found[name] = fields
    return found


def _changed_endpoint(state: State) -> dict[str, tuple[FieldChange, ...]]:
    """Return the addresses of the recorded endpoint that are not those of the scheduler's own record."""
    recorded, current = state.endpoint, current_endpoint(state)
    if recorded is None or current is None:
        return {}
    fields = tuple(
        FieldChange(path=f"endpoint.{key}", before=before, after=after, forces_replacement=False)
        for key in ("private", "public")
        if (before := getattr(recorded, key)) != (after := getattr(current, key))
    )
    return {SCHEDULER: fields} if fields else {}


def _changed_tags(state: State, name: str, vm: VM, can_retag: bool) -> tuple[FieldChange, ...]:
    """Return the tags of a node's VM that planapply has set and that are now others; tags of others are none."""
    expected = dict(state.nodes[name].tags)
    if can_retag:
        expected |= expected_tags(state, name, vm)
    return changed_tags({key: value for key, value in vm.tags.items() if key in expected}, expected)


def _tagged_config(vm: VM) -> str:
    """Return the digest in a VM's tags; empty, an unknown configuration, if anyone made it anything else."""
    digest = vm.tags.get(TAG_CONFIG, "")
    return digest if digest.isprintable() else ""
