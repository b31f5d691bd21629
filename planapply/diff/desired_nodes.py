"""Which nodes a spec wants, by name."""

from collections.abc import Collection

from planapply.model.desired import DesiredState, Group
from planapply.model.names import SCHEDULER, node_name, split_name
from planapply.model.node import NodeConfig
from planapply.model.state import State


def known_names(state: State) -> set[str]:
    """Names whose VMs exist or may exist."""
    return {*state.nodes, *(name for intent in state.intents.values() for name in intent.names)}


def _elastic_names(group: Group, state: State, gone: Collection[str]) -> list[str]:
    """The members that it has, within its bounds; lost ones don't come back, the lowest stay."""
    existing = sorted(
        index
        for name in known_names(state)
        for group_name, index in [split_name(name)]
        if group_name == group.name and name != group_name and name not in gone
    )
    kept = existing if group.max is None else existing[: group.max]
    first = max(state.next_index.get(group.name, 0), *(i + 1 for i in existing), 0)
    new = range(first, first + max(0, (group.min or 0) - len(kept)))
    return [node_name(group.name, index) for index in (*kept, *new)]


def desired_nodes(
    desired: DesiredState, state: State, gone: Collection[str]
) -> dict[str, NodeConfig]:
    """Name -> config, in the order of the spec, the scheduler first."""
    node_configs = {SCHEDULER: desired.scheduler}
    for group in desired.groups:
        if group.count is not None:
            names = [node_name(group.name, index) for index in range(group.count)]
        else:
            names = _elastic_names(group, state, gone)
        node_configs.update(dict.fromkeys(names, group.config))
    return node_configs


def next_indexes(desired: Collection[str], state: State) -> dict[str, int]:
    """For each group the first index that was never given, once `desired` exists.

    Kept for every group there ever was: one that was taken out may come back as an elastic one.
    """
    indexes = dict(state.next_index)
    for name in {*desired, *known_names(state)}:
        group, index = split_name(name)
        if group != name:
            indexes[group] = max(indexes.get(group, 0), index + 1)
    return indexes
