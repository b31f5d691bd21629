"""The rules: what is created, destroyed, replaced or updated, and why."""

import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

from planapply.diff.desired_nodes import desired_nodes, known_names, next_indexes
from planapply.diff.fields import can_keep_vm, changed_fields, changed_tags
from planapply.diff.refresh import RefreshResult
from planapply.model.desired import DesiredState
from planapply.model.diagnostics import Diagnostic, PlanapplyError, warning
from planapply.model.names import SCHEDULER, from_ranges, sort_key, split_name, to_ranges
from planapply.model.node import NodeConfig
from planapply.model.plan import Action, Change, ElasticGroup, FieldChange, Plan
from planapply.model.state import NodeRecord, Resource, State


@dataclass(frozen=True)
class DiffOptions:
    """What the user asked of one plan."""

    targets: Collection[str] = ()
    """Names, ranges such as `cpu-[0..3]`, or groups; empty: everything."""
    replace: Collection[str] = ()
    can_retag: bool = False
    """Whether the provider changes tags in place; otherwise changed tags mean another VM."""
    resources: Mapping[str, Resource] | None = None
    """What the provider needs beside VMs; None where it needs nothing."""


def create_plan(
    desired: DesiredState, refreshed: RefreshResult, options: DiffOptions = DiffOptions()
) -> Plan:
    """The changes that take what exists to the spec.

    Raises PlanapplyError for a target that is neither wanted nor there, for a node to replace that
    no target means, and where `protect` forbids it.
    """
    state = refreshed.state
    node_configs = desired_nodes(desired, state, refreshed.gone)
    max_nodes = {group.name: group.max for group in desired.groups}
    changes = _node_changes(node_configs, max_nodes, refreshed, options)
    if options.targets:
        selected = select(options.targets, {*node_configs, *known_names(state)})
        if any(c.name == SCHEDULER and c.action is Action.CREATE for c in changes):
            selected.add(SCHEDULER)  # no worker can start without it
        if any(c.name == SCHEDULER and c.name in selected for c in changes):
            selected.update(c.name for c in changes if c.action is Action.REPLACE)
        if outside := select(options.replace, {*node_configs, *state.nodes}) - selected:
            _refuse_replacement(outside)
        changes = [change for change in changes if change.name in selected]
    resources = _resource_changes(options.resources or {}, state)
    changes = [
        *(r for r in resources if r.action is not Action.DESTROY or not options.targets),
        *changes,
    ]
    if desired.protect:
        _refuse_destruction(changes)
    changes += _stray_changes(refreshed, options.targets)
    kept = {*node_configs} if not options.targets else {c.name for c in changes if c.kind == "node"}
    return Plan(
        cluster=desired.cluster,
        provider=desired.provider,
        lineage=state.lineage or None,
        serial=state.serial,
        spec_digest=desired.spec_digest,
        cloud={} if state.is_empty else state.cloud,
        settings=desired.settings,
        security=desired.security,
        join_timeout=desired.join_timeout,
        tags=desired.tags,
        protect=desired.protect,
        configs=_referenced_configs(changes, node_configs, state),
        changes=tuple(changes),
        next_index=next_indexes(kept, state),
        elastic=_elastic_groups(desired, node_configs),
        diagnostics=_adoption_warnings(refreshed),
    )


def _elastic_groups(desired: DesiredState, names: Collection[str]) -> dict[str, ElasticGroup]:
    return {
        group.name: ElasticGroup(
            nodes=sum(split_name(name)[0] == group.name for name in names),
            min=group.min or 0,
            max=group.max,
        )
        for group in desired.groups
        if group.max is not None
    }


def create_destroy_plan(
    refreshed: RefreshResult, targets: Collection[str] = (), *, protect: bool = False
) -> Plan:
    """The changes that leave nothing: workers, then the scheduler, then what else was made.

    Raises PlanapplyError for an unknown target, and where the state or the spec says `protect`.
    """
    state = refreshed.state
    names = known_names(state)
    selected = select(targets, names) if targets else names
    if SCHEDULER in selected:
        selected = names  # workers can't do without it
    changes = [
        _destroy(name, state, "destroy was asked for")
        for name in sorted(selected, key=sort_key, reverse=True)
    ]
    if selected == names:
        changes += [
            Change(
                name=name, kind="resource", action=Action.DESTROY, reason="destroy was asked for"
            )
            for name in state.resources
        ]
    if state.protect or protect:
        _refuse_destruction(changes)
    changes += _stray_changes(refreshed, targets)
    return Plan(
        cluster=state.cluster,
        provider=state.provider,
        lineage=state.lineage,
        serial=state.serial,
        spec_digest=None,
        cloud=state.cloud,
        settings=state.settings,
        configs=_referenced_configs(changes, {}, state),
        changes=tuple(changes),
        next_index=state.next_index,
        diagnostics=_adoption_warnings(refreshed),
    )


def _node_changes(
    node_configs: Mapping[str, NodeConfig],
    max_nodes: Mapping[str, int | None],
    refreshed: RefreshResult,
    options: DiffOptions,
) -> list[Change]:
    state = refreshed.state
    to_replace = (
        select(options.replace, {*node_configs, *state.nodes}) if options.replace else set()
    )
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
            change = _compare(name, config, record, refreshed, options.can_retag, cache)
            if (change is None or change.action is Action.UPDATE) and (
                name in to_replace or scheduler_replaced
            ):
                reason = (
                    "the scheduler is replaced"
                    if scheduler_replaced
                    else "asked for with --replace"
                )
                change = _replace(name, config, record, reason)
        if change is not None:
            changes.append(change)
            scheduler_replaced = scheduler_replaced or (
                name == SCHEDULER and change.action is not Action.UPDATE
            )
    removed = sorted(known_names(state) - node_configs.keys(), key=sort_key)
    changes += [
        _destroy(name, state, _removal_reason(name, refreshed, max_nodes.get(split_name(name)[0])))
        for name in removed
    ]
    return changes


def _removal_reason(name: str, refreshed: RefreshResult, max_nodes: int | None) -> str:
    if name in refreshed.gone:
        return "its VM is gone"
    return "not in the spec" if max_nodes is None else f"max of its group is {max_nodes}"


def _create(name: str, config: NodeConfig, record: NodeRecord | None, requested: bool) -> Change:
    if record is not None:
        reason = f"its VM {record.vm} is gone"
    elif requested:
        reason = "an earlier request for it is still open"
    else:
        reason = "not there yet"
    return Change(
        name=name,
        action=Action.CREATE,
        reason=reason,
        after=config.digest,
        before=record.config if record else None,
        vm=record.vm if record else None,
    )


def _replace(
    name: str,
    config: NodeConfig,
    record: NodeRecord,
    reason: str,
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
        return _replace(name, config, record, "its end was already under way")
    vm = refreshed.observed.get(name)
    if vm is not None and vm.status == "stopping":
        return _replace(name, config, record, f"its VM {record.vm} is on its way to its end")
    if vm is not None and vm.status == "stopped":
        return _replace(name, config, record, f"its VM {record.vm} is there and does not run")
    if record.config != config.digest:
        before = refreshed.state.configs.get(record.config)
        if before is None:
            return _replace(name, config, record, "it was made from another configuration")
        key = (record.config, config.digest)
        if key not in cache:
            cache[key] = changed_fields(before, config)
        if not can_keep_vm(record, cache[key], config):
            return _replace(name, config, record, _describe_fields(cache[key]), cache[key])
    current = record.tags
    if vm is not None:
        current = {k: v for k, v in vm.tags.items() if k in config.tags or k in record.tags}
    fields = changed_tags(current, config.tags)
    if not fields:
        return None
    if not can_retag:
        forced = tuple(f.model_copy(update={"forces_replacement": True}) for f in fields)
        return _replace(name, config, record, _describe_fields(forced), forced)
    return Change(
        name=name,
        action=Action.UPDATE,
        reason=_describe_fields(fields),
        fields=fields,
        before=record.config,
        after=config.digest,
        vm=record.vm,
    )


def _describe_fields(fields: tuple[FieldChange, ...]) -> str:
    return f"{', '.join(field.path for field in fields)} changed"


def _destroy(name: str, state: State, reason: str) -> Change:
    record = state.nodes.get(name)
    if record is None:
        return Change(
            name=name,
            action=Action.DESTROY,
            reason="an earlier request for it is still open, so it may exist",
        )
    return Change(
        name=name, action=Action.DESTROY, reason=reason, before=record.config, vm=record.vm
    )


def _resource_changes(desired: Mapping[str, Resource], state: State) -> Iterator[Change]:
    for name, resource in desired.items():
        recorded = state.resources.get(name)
        if recorded is None or recorded.id is None:
            yield Change(name=name, kind="resource", action=Action.CREATE, reason="not there yet")
        elif keys := recorded.missing_details(resource):
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
                reason=_describe_fields(fields),
                fields=fields,
            )
    for name in () if desired else state.resources:
        reason = "not needed any more"
        yield Change(name=name, kind="resource", action=Action.DESTROY, reason=reason)


def _stray_changes(refreshed: RefreshResult, targets: Collection[str]) -> list[Change]:
    if targets:
        return []
    return [
        Change(
            name=vm.id,
            kind="stray",
            action=Action.DESTROY,
            vm=vm.id,
            reason=f"one VM too many: {vm.name} is another one"
            if vm.name
            else "its tags name no node",
        )
        for vm in sorted(refreshed.strays, key=lambda vm: vm.id)
    ]


def select(targets: Collection[str], names: Collection[str]) -> set[str]:
    """Those of `names` that `targets` mean: nodes, groups, or ranges such as `cpu-[0..3]`.

    Raises PlanapplyError for a target that means none.
    """
    groups: dict[str, set[str]] = {}
    for name in names:
        groups.setdefault(split_name(name)[0], set()).add(name)
    selected: set[str] = set()
    for target in targets:
        found = groups.get(target) or {n for n in from_ranges([target]) if n in names}
        if not found:
            raise PlanapplyError(
                f"there is no node {target!r}",
                f"Nodes: {' '.join(to_ranges(sorted(names, key=sort_key))) or 'none'}. "
                "Name a node, a group, or a range such as cpu-[0..3].",
            )
        selected |= found
    return selected


def _refuse_replacement(outside: Collection[str]) -> NoReturn:
    names = to_ranges(sorted(outside, key=sort_key))
    targets = " ".join(f"--target {shlex.quote(name)}" for name in names)
    raise PlanapplyError(
        f"--replace names {' '.join(names)}, and --target does not",
        f"Add {targets}, or leave out one of the two options.",
    )


def _refuse_destruction(changes: Collection[Change]) -> None:
    destructive = (Action.REPLACE, Action.DESTROY)
    destroyed = sorted((c.name for c in changes if c.action in destructive), key=sort_key)
    if destroyed:
        raise PlanapplyError(
            f"the cluster is protected, and this would end {' '.join(to_ranges(destroyed))}",
            "Set `protect = false` under [cluster] and apply that first, if you mean it.",
        )


def _referenced_configs(
    changes: Collection[Change], node_configs: Mapping[str, NodeConfig], state: State
) -> dict[str, NodeConfig]:
    used = {d for c in changes for d in (c.before, c.after) if d is not None}
    known = {**state.configs, **{config.digest: config for config in node_configs.values()}}
    return {digest: known[digest] for digest in sorted(used) if digest in known}


def _adoption_warnings(refreshed: RefreshResult) -> tuple[Diagnostic, ...]:
    warnings = []
    if refreshed.adopted:
        names = " ".join(to_ranges(sorted(refreshed.adopted, key=sort_key)))
        warnings.append(
            warning(
                f"found VMs that the state did not know: {names}",
                "They carry this cluster's tags and are taken into the state.",
            )
        )
    return tuple(warnings)
