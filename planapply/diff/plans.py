"""Plans: the changes of all nodes and resources, limited by targets and protection."""

import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from planapply.diff.changes import destroy, node_changes, resource_changes, stray_changes
from planapply.diff.desired_nodes import desired_nodes, known_names, next_indexes
from planapply.diff.refresh import RefreshResult
from planapply.diff.waves import Waves, launch_waves
from planapply.model.desired import DesiredState
from planapply.model.diagnostics import Diagnostic, PlanapplyError, warning
from planapply.model.end_reason import EndReason
from planapply.model.names import (
    SCHEDULER,
    format_names,
    from_ranges,
    sort_key,
    split_name,
    suggest_range,
    to_hostlist,
)
from planapply.model.node import NodeConfig
from planapply.model.plan import Action, Change, ChangeReason, ElasticGroup, FieldChange, Mode, Plan
from planapply.model.state import Resource, State

VM_LOSS_REASONS = (ChangeReason.VM_GONE, ChangeReason.VM_STOPPING, ChangeReason.VM_STOPPED)


@dataclass(frozen=True)
class DiffOptions:
    """The options of one plan."""

    targets: Collection[str] = ()
    """Nodes, groups, or ranges such as `cpu-[0-3]`; empty for everything."""
    replace: Collection[str] = ()
    can_retag: bool = False
    """Whether the provider can change tags in place; otherwise changed tags require another VM."""
    resources: Mapping[str, Resource] | None = None
    """The supporting resources that the provider needs; None if it needs none."""
    terminate_unknown: bool = False
    """Whether to terminate VMs with this cluster's tags that planapply did not launch."""


def create_plan(
    desired: DesiredState, refreshed: RefreshResult, options: DiffOptions = DiffOptions()
) -> Plan:
    """Return the plan that leads from what exists to the desired state.

    Raises PlanapplyError for a target that is neither desired nor exists, for a node to replace that is
    not among the targets, and if `protect` forbids a change.
    """
    state = refreshed.state
    node_configs = desired_nodes(desired, state, refreshed.gone.union(refreshed.lost))
    to_replace = select(options.replace, {*node_configs, *state.nodes})
    groups = {group.name: group for group in desired.groups}
    changes = node_changes(node_configs, groups, refreshed, to_replace, options.can_retag)
    if options.targets:
        selected = select(options.targets, {*node_configs, *known_names(state)})
        if any(c.name == SCHEDULER and c.action is Action.CREATE for c in changes):
            selected.add(SCHEDULER)  # no worker can start without it
        if any(c.name == SCHEDULER and c.name in selected for c in changes):
            selected.update(c.name for c in changes if c.action is Action.REPLACE)
        if outside := to_replace - selected:
            _refuse_replacement(outside)
        changes = [change for change in changes if change.name in selected]
    resources = resource_changes(options.resources or {}, refreshed)
    changes = [
        *(r for r in resources if r.action is not Action.DESTROY or not options.targets),
        *changes,
    ]
    waves = launch_waves(changes, groups, refreshed)
    if desired.protect:
        _refuse_destruction(changes, waves)
    changes += stray_changes(refreshed, options.targets, options.terminate_unknown)
    kept = {*node_configs} if not options.targets else {c.name for c in changes if c.kind == "node"}
    return build_plan(
        desired,
        refreshed,
        mode=Mode.NORMAL,
        configs=referenced_configs(changes, node_configs, state),
        changes=tuple(changes),
        next_index=next_indexes(kept, state),
        waves=waves,
        elastic=elastic_groups(desired, node_configs),
        diagnostics=vm_warnings(refreshed, options.terminate_unknown),
    )


def create_refresh_plan(desired: DesiredState, refreshed: RefreshResult) -> Plan:
    """Return the plan that records drift in the state, and changes nothing in the cloud."""
    state = refreshed.state
    return build_plan(
        desired,
        refreshed,
        mode=Mode.REFRESH_ONLY,
        next_index=next_indexes((), state),
        elastic=elastic_groups(desired, known_names(state) - refreshed.gone),
        diagnostics=unknown_warnings(refreshed),
    )


def build_plan(desired: DesiredState, refreshed: RefreshResult, **values: Any) -> Plan:
    """Return a plan with the settings of the whole cluster, and with these `values`."""
    state = refreshed.state
    if "changes" in values:
        values["changes"] = tuple(with_end_reason(c, refreshed) for c in values["changes"])
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
        drift=refreshed.drift,
        recorded=_recorded_settings(desired, state),
        **values,
    )


def with_end_reason(change: Change, refreshed: RefreshResult) -> Change:
    """Return a change whose facts say why the node's VM has ended, if that is known."""
    reason = refreshed.ended.get(change.name, EndReason.UNKNOWN)
    if change.reason not in VM_LOSS_REASONS or reason is EndReason.UNKNOWN:
        return change
    return change.model_copy(update={"facts": {**change.facts, "ended": reason.value}})


def _recorded_settings(desired: DesiredState, state: State) -> tuple[FieldChange, ...]:
    """Return the settings that the state of a cluster has with another value, or without one."""
    if state.is_empty:
        return ()
    before = {"protect": state.protect, **_provider_settings(state.settings)}
    after = {"protect": desired.protect, **_provider_settings(desired.settings)}
    return tuple(
        FieldChange(
            path=key, before=before.get(key), after=after.get(key), forces_replacement=False
        )
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    )


def _provider_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {f"provider.{key}": value for key, value in settings.items()}


def elastic_groups(desired: DesiredState, names: Collection[str]) -> dict[str, ElasticGroup]:
    """Return the bounds of each elastic group, and how many of `names` are its nodes."""
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
    refreshed: RefreshResult,
    targets: Collection[str] = (),
    *,
    protect: bool = False,
    terminate_unknown: bool = False,
) -> Plan:
    """Return the plan that destroys the cluster: workers, then the scheduler, then supporting resources.

    `protect` is the value in the spec, if there is one. Raises PlanapplyError for an unknown target, and
    if the state or the spec has `protect`.
    """
    state = refreshed.state
    names = known_names(state)
    selected = select(targets, names) if targets else names
    if SCHEDULER in selected:
        selected = names  # no worker can run without it
    changes = [
        destroy(name, state, ChangeReason.DESTROY_REQUESTED)
        for name in sorted(selected, key=sort_key, reverse=True)
    ]
    if selected == names:
        changes += [
            Change(
                name=name,
                kind="resource",
                action=Action.DESTROY,
                reason=ChangeReason.DESTROY_REQUESTED,
            )
            for name in state.resources
        ]
    if state.protect or protect:
        _refuse_destruction(changes)
    changes += stray_changes(refreshed, targets, terminate_unknown)
    return Plan(
        cluster=state.cluster,
        provider=state.provider,
        mode=Mode.DESTROY,
        lineage=state.lineage,
        serial=state.serial,
        spec_digest=None,
        cloud=state.cloud,
        settings=state.settings,
        configs=referenced_configs(changes, {}, state),
        changes=tuple(changes),
        drift=refreshed.drift,
        next_index=state.next_index,
        diagnostics=vm_warnings(refreshed, terminate_unknown),
    )


def select(targets: Collection[str], names: Collection[str]) -> set[str]:
    """Return those of `names` that `targets` select: nodes, groups, or ranges such as `cpu-[0-3]`.

    Raises PlanapplyError for a target that selects none, and for a range with nodes that do not exist.
    """
    names = {*names}
    groups: dict[str, set[str]] = {}
    for name in names:
        groups.setdefault(split_name(name)[0], set()).add(name)
    selected: set[str] = set()
    for target in targets:
        found = groups.get(target, set()) or {*from_ranges([target])}
        if found <= names and found:
            selected |= found
            continue
        missing = found - names
        shown = repr(target) if missing == {target} else format_names(missing)
        summary = f"there {'is no node' if len(missing) == 1 else 'are no nodes'} {shown}"
        advice = "Name a node, a group, or a range such as cpu-[0-3]."
        if valid := suggest_range(target):
            summary, advice = f"{target!r} is not a range", f"Write, for example, {valid}."
        raise PlanapplyError(
            summary, f"Nodes: {format_names(names) or 'none'}. {advice}", code="node_unknown"
        )
    return selected


def _refuse_replacement(outside: Collection[str]) -> NoReturn:
    names = to_hostlist(sorted(outside, key=sort_key))
    targets = " ".join(f"--target {shlex.quote(name)}" for name in names)
    raise PlanapplyError(
        f"cannot replace {', '.join(names)}: not selected by --target",
        f"Add {targets}, or omit one of the two options.",
    )


class Protected(PlanapplyError):
    """The refusal of a plan that would destroy or replace nodes, with what it would have done."""

    def __init__(
        self, summary: str, detail: str, changes: Collection[Change], waves: Waves
    ) -> None:
        self.changes, self.waves = changes, waves
        super().__init__(summary, detail, code="protected")


def _refuse_destruction(changes: Collection[Change], waves: Waves = ()) -> None:
    destructive = (Action.REPLACE, Action.DESTROY)
    destroyed = [c.name for c in changes if c.action in destructive]
    if not destroyed:
        return
    is_lost = any(c.name == SCHEDULER and c.reason is ChangeReason.VM_GONE for c in changes)
    raise Protected(
        f"cannot destroy or replace {format_names(destroyed)}: the cluster is protected",
        (
            "The scheduler's VM no longer exists, so every worker must be replaced along with it. "
            if is_lost
            else ""
        )
        + "To remove the protection, set `protect = false` under [cluster] and apply that first.",
        changes,
        waves,
    )


def referenced_configs(
    changes: Collection[Change], node_configs: Mapping[str, NodeConfig], state: State
) -> dict[str, NodeConfig]:
    """Return the configurations that the changes refer to, by digest, as far as they are known."""
    used = {d for c in changes for d in (c.before, c.after) if d is not None}
    known = {**state.configs, **{config.digest: config for config in node_configs.values()}}
    return {digest: known[digest] for digest in sorted(used) if digest in known}


def vm_warnings(refreshed: RefreshResult, terminate_unknown: bool) -> tuple[Diagnostic, ...]:
    """Return warnings about VMs that the state does not have."""
    adopted = (
        warning(
            f"found VMs that were not in the state: {format_names(refreshed.adopted)}",
            "planapply launched them for this cluster; an apply adopts them into the state.",
        ),
    )
    return (
        *(adopted if refreshed.adopted else ()),
        *_group_warnings(refreshed),
        *(() if terminate_unknown else unknown_warnings(refreshed)),
    )


def _group_warnings(refreshed: RefreshResult) -> Iterator[Diagnostic]:
    """Yield a warning about VMs in other security groups: a firewall that is not the cluster's."""
    if refreshed.groups:
        names = sorted(refreshed.groups, key=sort_key)
        yield warning(
            f"VMs are in other security groups than the cluster's: {format_names(names)}",
            "Who can reach them is up to those groups. An apply does not move a VM: set its groups with the "
            f"cloud's own tools, or launch another VM with `planapply apply --replace {names[0]}`.",
        )


def unknown_warnings(refreshed: RefreshResult) -> tuple[Diagnostic, ...]:
    """Return a warning with the IDs of VMs that have the cluster's tags, but were not launched by planapply."""
    if not refreshed.unknown:
        return ()
    return (
        warning(
            f"VMs with this cluster's tags that planapply did not launch: "
            f"{', '.join(vm.id for vm in refreshed.unknown)}",
            "Another user has set their tags, or the state has lost them. They are not adopted. To terminate "
            "them, pass --terminate-unknown to `planapply apply` or `planapply destroy`.",
        ),
    )
