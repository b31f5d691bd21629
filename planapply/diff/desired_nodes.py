"""The names of the nodes in the desired state."""

from collections.abc import Collection, Iterable

from planapply.model.desired import DesiredState, Group
from planapply.model.names import SCHEDULER, node_name, split_name
from planapply.model.node import NodeConfig
from planapply.model.state import State


def known_names(state: State) -> set[str]:
    """Return the names of nodes whose VMs exist or may exist."""
    return {*state.nodes, *(name for intent in state.intents.values() for name in intent.names)}


def indexes(group: str, names: Iterable[str]) -> list[int]:
    """Return the indexes of those names that are nodes of a group, in any order."""
    return [
        index
        for name in names
        for group_name, index in [split_name(name)]
        if group_name == group != name
    ]


def new_names(group: str, count: int, state: State) -> list[str]:
    """Return names for `count` more nodes of a group, which no node has had before."""
    used = [index + 1 for index in indexes(group, known_names(state))]
    first = max([state.next_index.get(group, 0), *used])
    return [node_name(group, index) for index in range(first, first + count)]


def _elastic_names(group: Group, state: State, lost: Collection[str]) -> list[str]:
    """Return the group's nodes within its bounds: the lowest stay, and lost nodes do not come back."""
    existing = sorted(indexes(group.name, known_names(state).difference(lost)))
    kept = existing if group.max is None else existing[: group.max]
    missing = max(0, (group.min or 0) - len(kept))
    return [
        *(node_name(group.name, index) for index in kept),
        *new_names(group.name, missing, state),
    ]


def desired_nodes(
    desired: DesiredState, state: State, lost: Collection[str]
) -> dict[str, NodeConfig]:
    """Return the config of each desired node by name, the scheduler first, in the order of the spec.

    `lost` are nodes whose VM no longer runs: elastic groups do without them.
    """
    node_configs = {SCHEDULER: desired.scheduler}
    for group in desired.groups:
        if group.count is not None:
            names = [node_name(group.name, index) for index in range(group.count)]
        else:
            names = _elastic_names(group, state, lost)
        node_configs.update(dict.fromkeys(names, group.config))
    return node_configs


def next_indexes(desired: Collection[str], state: State) -> dict[str, int]:
    """Return the first unused index of each group, for when the `desired` nodes exist.

    This includes groups that were removed: they may be added again, as elastic groups.
    """
    indexes = dict(state.next_index)
    for name in {*desired, *known_names(state)}:
        group, index = split_name(name)
        if group != name:
            indexes[group] = max(indexes.get(group, 0), index + 1)
    return indexes
