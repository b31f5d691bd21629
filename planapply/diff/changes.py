"""The rules for single changes: what is created, updated, replaced, or destroyed, and why."""

from collections.abc import Collection, Iterable, Iterator, Mapping

from planapply.diff.desired_nodes import known_names
from planapply.diff.fields import can_keep_vm, changed_fields, changed_lifetimes
from planapply.diff.refresh import RefreshResult
from planapply.diff.tags import changed_tags, own_fields
from planapply.model.desired import Group
from planapply.model.names import SCHEDULER, sort_key, split_name
from planapply.model.node import VM, NodeConfig
from planapply.model.plan import Action, Change, ChangeReason, FieldChange
from planapply.model.state import NodeRecord, Resource, State


def node_changes(
    node_configs: Mapping[str, NodeConfig],
    groups: Mapping[str, Group],
    refreshed: RefreshResult,
    to_replace: Collection[str],
    can_retag: bool,
) -> list[Change]:
    """Return the changes of all nodes, the scheduler first, in the order of the spec.

    `node_configs` are the desired nodes, `to_replace` the nodes whose replacement was requested.
    """
    state = refreshed.state
    cache: dict[tuple[str, str], tuple[FieldChange, ...]] = {}
    requested = {name for intent in state.intents.values() for name in intent.names}
    changes: list[Change] = []
    scheduler_replaced = False
    for name, config in node_configs.items():
        record = state.nodes.get(name)
        change: Change | None
        if record is None or name in refreshed.gone:
            change = _create(name, config, record, name in requested)
        else:
            change = _compare(name, config, record, refreshed, can_retag, cache)
            if (change is None or change.action is Action.UPDATE) and (
                name in to_replace or scheduler_replaced
            ):
                reason = (
                    ChangeReason.SCHEDULER_REPLACED
                    if scheduler_replaced
                    else ChangeReason.REPLACE_REQUESTED
                )
                change = _replace(name, config, record, reason)
        if change is not None:
            changes.append(change)
            scheduler_replaced = scheduler_replaced or (
                name == SCHEDULER and change.action is not Action.UPDATE
            )
    existing = known_names(state)
    lost = refreshed.gone.union(refreshed.lost)
    reasons: dict[str, tuple[ChangeReason, dict[str, int | str]]] = {}
    for name in sorted(existing - node_configs.keys(), key=sort_key):
        group = split_name(name)[0]
        if name in lost and (loss := vm_loss_reason(name, refreshed)) is not None:
            changes.append(destroy(name, state, loss))
            continue
        if group not in reasons:
            reasons[group] = _removal_reason(groups.get(group), existing)
        changes.append(destroy(name, state, *reasons[group]))
    return changes


def vm_loss_reason(name: str, refreshed: RefreshResult) -> ChangeReason | None:
    """Return why a node's VM no longer runs, or is about to stop; None if it runs, or may run."""
    if name in refreshed.gone:
        return ChangeReason.VM_GONE
    vm = refreshed.observed.get(name)
    return _STATUS_REASONS.get(vm.status) if vm is not None else None


_STATUS_REASONS = {"stopping": ChangeReason.VM_STOPPING, "stopped": ChangeReason.VM_STOPPED}


def _removal_reason(
    group: Group | None, existing: Iterable[str]
) -> tuple[ChangeReason, dict[str, int | str]]:
    """Return why some nodes of a group are not desired; `group` is None if the spec does not have it."""
    if group is None:
        return ChangeReason.GROUP_REMOVED, {}
    if group.count is None:
        assert group.max is not None
        return ChangeReason.MAX_LOWERED, {"max": group.max}
    indexes = sorted(i for name, i in map(split_name, existing) if name == group.name)
    # With gaps, the number of nodes is not what the count was.
    is_gapless = indexes == list(range(len(indexes)))
    before: dict[str, int | str] = {"before": len(indexes)} if is_gapless else {}
    return ChangeReason.COUNT_LOWERED, {**before, "after": group.count}


def _create(name: str, config: NodeConfig, record: NodeRecord | None, requested: bool) -> Change:
    if record is not None:
        reason = ChangeReason.VM_GONE
    elif requested:
        reason = ChangeReason.REQUEST_UNRESOLVED
    else:
        reason = ChangeReason.NEW
    return Change(
        name=name,
        action=Action.CREATE,
        reason=reason,
        after=config.digest,
        before=record.config if record else None,
        vm=record.vm if record else None,
        current=record.choice if record else None,
    )


def _replace(
    name: str,
    config: NodeConfig,
    record: NodeRecord,
    reason: ChangeReason,
    fields: tuple[FieldChange, ...] = (),
) -> Change:
    return Change(
        name=name,
        action=Action.REPLACE,
        reason=reason,
        fields=fields,
        before=record.config,
        after=config.digest,
        vm=record.vm,
        current=record.choice,
    )


def _compare(
    name: str,
    config: NodeConfig,
    record: NodeRecord,
    refreshed: RefreshResult,
    can_retag: bool,
    cache: dict[tuple[str, str], tuple[FieldChange, ...]],
) -> Change | None:
    if record.status == "terminating":
        return _replace(name, config, record, ChangeReason.TERMINATION_IN_PROGRESS)
    if (loss := vm_loss_reason(name, refreshed)) is not None:
        return _replace(name, config, record, loss)
    vm = refreshed.observed.get(name)
    lifetimes = changed_lifetimes(record, config, refreshed.state.configs)
    if record.config not in config.digests:
        before = refreshed.state.configs.get(record.config)
        if before is None:
            return _replace(name, config, record, ChangeReason.CONFIG_CHANGED)
        key = (record.config, config.digest)
        if key not in cache:
            cache[key] = changed_fields(before, config)
        if not can_keep_vm(record, cache[key], config):
            changed = (*cache[key], *lifetimes)
            return _replace(name, config, record, ChangeReason.FIELDS_CHANGED, changed)
    if any(field.forces_replacement for field in lifetimes):
        return _replace(name, config, record, ChangeReason.PLUGIN_MISSING, lifetimes)
    current = record.tags
    if vm is not None:
        current = {k: v for k, v in vm.tags.items() if k in config.tags or k in record.tags}
    fields = (*changed_tags(current, config.tags), *own_fields(refreshed.tags.get(name, ())))
    if not fields and not lifetimes:
        return None
    if fields and not can_retag:
        forced = tuple(f.model_copy(update={"forces_replacement": True}) for f in fields)
        return _replace(name, config, record, ChangeReason.FIELDS_CHANGED, forced)
    return Change(
        name=name,
        action=Action.UPDATE,
        reason=ChangeReason.FIELDS_CHANGED,
        fields=(*fields, *lifetimes),
        before=record.config,
        after=config.digest,
        vm=record.vm,
        current=record.choice,
    )


def destroy(
    name: str, state: State, reason: ChangeReason, facts: Mapping[str, int | str] = {}
) -> Change:
    """Return the change that destroys a node, whose VM exists or may exist."""
    record = state.nodes.get(name)
    if record is None:
        return Change(name=name, action=Action.DESTROY, reason=ChangeReason.REQUEST_UNRESOLVED)
    return Change(
        name=name,
        action=Action.DESTROY,
        reason=reason,
        facts=dict(facts),
        before=record.config,
        vm=record.vm,
        current=record.choice,
    )


def resource_changes(desired: Mapping[str, Resource], refreshed: RefreshResult) -> Iterator[Change]:
    """Yield the changes of supporting resources."""
    state = refreshed.state
    for name, resource in desired.items():
        recorded = state.resources.get(name)
        drift = refreshed.resources.get(name)
        if recorded is None or recorded.id is None or (drift and not drift.exists):
            is_new = recorded is None or recorded.id is None
            yield Change(
                name=name,
                kind="resource",
                action=Action.CREATE,
                reason=ChangeReason.NEW if is_new else ChangeReason.RESOURCE_GONE,
            )
        elif (keys := recorded.missing_details(resource)) or drift:
            fields = tuple(
                FieldChange(
                    path=key,
                    before=recorded.detail.get(key),
                    after=resource.detail[key],
                    forces_replacement=False,
                )
                for key in keys
            )
            yield Change(
                name=name,
                kind="resource",
                action=Action.UPDATE,
                reason=ChangeReason.FIELDS_CHANGED,
                fields=(*fields, *(drift.fields if drift else ())),
            )
    for name in () if desired else state.resources:
        yield Change(
            name=name,
            kind="resource",
            action=Action.DESTROY,
            reason=ChangeReason.RESOURCE_UNNEEDED,
        )


def stray_changes(
    refreshed: RefreshResult, targets: Collection[str], terminate_unknown: bool
) -> list[Change]:
    """Return the changes that terminate stray VMs; none if the plan has targets.

    VMs that planapply did not launch are included only with `terminate_unknown`.
    """
    if targets:
        return []
    unknown = refreshed.unknown if terminate_unknown else ()
    return [
        *(_stray_change(vm) for vm in sorted(refreshed.strays, key=lambda vm: vm.id)),
        *(
            Change(
                name=vm.id,
                kind="stray",
                action=Action.DESTROY,
                vm=vm.id,
                reason=ChangeReason.UNKNOWN_VM,
            )
            for vm in sorted(unknown, key=lambda vm: vm.id)
        ),
    ]


def _stray_change(vm: VM) -> Change:
    return Change(
        name=vm.id,
        kind="stray",
        action=Action.DESTROY,
        vm=vm.id,
        reason=ChangeReason.DUPLICATE_VM if vm.name else ChangeReason.UNKNOWN_NODE,
        facts={"node": vm.name} if vm.name else {},
    )
