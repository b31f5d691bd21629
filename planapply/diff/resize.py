"""Plans that resize elastic groups, and change nothing else."""

from collections.abc import Iterator, Mapping

from planapply.diff.changes import destroy, resource_changes, vm_loss_reason
from planapply.diff.desired_nodes import indexes, known_names, new_names, next_indexes
from planapply.diff.plans import build_plan, elastic_groups, referenced_configs, vm_warnings
from planapply.diff.refresh import RefreshResult
from planapply.model.desired import DesiredState, Group
from planapply.model.names import node_name, split_name
from planapply.model.plan import Action, Change, ChangeReason, Mode, Plan
from planapply.model.state import Resource, State


def create_resize_plan(
    desired: DesiredState,
    refreshed: RefreshResult,
    sizes: Mapping[str, int],
    resources: Mapping[str, Resource] | None = None,
) -> Plan:
    """Return the plan that gives each elastic group in `sizes` this number of nodes.

    A node whose VM no longer runs does not count, and is removed. Nodes that have not joined leave first,
    then those with the highest indexes. An index is never used twice. `resources` are the supporting
    resources that the provider needs; what is missing of them is created.
    """
    state = refreshed.state
    changes: list[Change] = []
    for group in desired.groups:
        if group.name in sizes:
            changes += _group_changes(group, sizes[group.name], refreshed)
    if any(change.action is Action.CREATE for change in changes):
        needed = resource_changes(resources or {}, refreshed)
        changes = [*(c for c in needed if c.action is not Action.DESTROY), *changes]
    created = {change.name for change in changes if change.after is not None}
    removed = {change.name for change in changes if change.action is Action.DESTROY}
    remaining = (known_names(state) - refreshed.gone - removed) | created
    return build_plan(
        desired,
        refreshed,
        mode=Mode.SCALE,
        configs=referenced_configs(
            changes, {group.name: group.config for group in desired.groups}, state
        ),
        changes=tuple(changes),
        next_index=next_indexes(created, state),
        elastic={
            name: group
            for name, group in elastic_groups(desired, remaining).items()
            if name in sizes
        },
        diagnostics=vm_warnings(refreshed, terminate_unknown=False),
    )


def _group_changes(group: Group, size: int, refreshed: RefreshResult) -> Iterator[Change]:
    state = refreshed.state
    names = {node_name(group.name, index) for index in indexes(group.name, known_names(state))}
    reasons = {name: reason for name in names if (reason := loss_reason(name, refreshed))}
    alive = sorted(
        names - reasons.keys(), key=lambda name: (not _has_joined(name, state), _index(name))
    )
    facts: dict[str, int | str] = {"before": len(alive), "after": size}
    for name in sorted([*reasons, *alive[size:]], key=_index):
        yield destroy(name, state, reasons.get(name, ChangeReason.SCALED), facts)
    requested = {name for intent in state.intents.values() for name in intent.names}
    for name in sorted(alive[:size], key=_index):
        if name in requested:
            yield _create(group, name, ChangeReason.REQUEST_UNRESOLVED, {})
    for name in new_names(group.name, size - len(alive), state):
        yield _create(group, name, ChangeReason.SCALED, facts)


def _create(
    group: Group, name: str, reason: ChangeReason, facts: Mapping[str, int | str]
) -> Change:
    return Change(
        name=name,
        action=Action.CREATE,
        reason=reason,
        facts=dict(facts),
        after=group.config.digest,
    )


def _index(name: str) -> int:
    return split_name(name)[1]


def _has_joined(name: str, state: State) -> bool:
    return name in state.nodes and state.nodes[name].status == "joined"


def loss_reason(name: str, refreshed: RefreshResult) -> ChangeReason | None:
    """Return why a node does not count; None if its VM runs, or may run."""
    record = refreshed.state.nodes.get(name)
    if name not in refreshed.gone and record is not None and record.status == "terminating":
        return ChangeReason.TERMINATION_IN_PROGRESS
    return vm_loss_reason(name, refreshed)
