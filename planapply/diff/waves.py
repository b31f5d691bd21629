"""Waves: the nodes that are replaced together, so that results in memory move to nodes that stay."""

from collections.abc import Collection, Mapping
from itertools import zip_longest

from planapply.diff.refresh import RefreshResult
from planapply.model.desired import AT_ONCE, Group
from planapply.model.names import SCHEDULER, split_name
from planapply.model.plan import Action, Change, ChangeReason

_NOT_RUNNING = frozenset(
    {ChangeReason.TERMINATION_IN_PROGRESS, ChangeReason.VM_STOPPING, ChangeReason.VM_STOPPED}
)
"""Reasons to replace a node that holds no results any more."""

Waves = tuple[tuple[str, ...], ...]


def launch_waves(
    changes: Collection[Change], groups: Mapping[str, Group], refreshed: RefreshResult
) -> Waves:
    """Return the nodes that the changes launch, in waves; empty if all are launched at once.

    A wave replaces at most `max_unavailable` nodes of a group. Nodes that do not run hold no results: they
    are launched with the first wave, in which nodes that ran before count as unavailable, or before it if
    otherwise no worker would stay. If the scheduler is launched, too, no result can be kept, and everything
    is launched at once.
    """
    launched = [
        change
        for change in changes
        if change.kind == "node" and change.action in (Action.CREATE, Action.REPLACE)
    ]
    replaced = [change.name for change in launched if stops_running_node(change)]
    limited = [
        group.name
        for group in groups.values()
        if group.max_unavailable != AT_ONCE and any(_group(n) == group.name for n in replaced)
    ]
    if not limited or any(change.name == SCHEDULER for change in launched):
        return ()
    new = [change.name for change in launched if change.name not in replaced]
    missing = [c.name for c in launched if c.name in new and c.reason is not ChangeReason.NEW]
    running = _running_workers(refreshed)
    by_group = {
        name: _split(replaced, group, running, refreshed, sum(_group(n) == name for n in missing))
        for name, group in groups.items()
        if any(_group(node) == name for node in replaced)
    }
    waves = _merge(by_group)
    if not _remaining(changes, waves, running):
        if new:
            return tuple(new), *waves
        if len(by_group) > 1:  # the other groups can take its results
            by_group[limited[-1]].insert(0, [])
            waves = _merge(by_group)
    return (*new, *waves[0]), *waves[1:]


def loses_results(changes: Collection[Change], waves: Waves, refreshed: RefreshResult) -> bool:
    """Return whether the changes terminate the scheduler, or all running workers at the same time.

    Without a scheduler, everything is lost already.
    """
    actions = {change.name: change.action for change in changes if change.kind == "node"}
    if SCHEDULER not in refreshed.state.nodes.keys() - refreshed.gone:
        return False
    if actions.get(SCHEDULER) in (Action.REPLACE, Action.DESTROY):
        return True
    running = _running_workers(refreshed)
    at_once = waves or (
        tuple(name for name, action in actions.items() if action is Action.REPLACE),
    )
    return bool(running) and not _remaining(changes, at_once, running)


def stops_running_node(change: Change) -> bool:
    """Return whether a change replaces a node that may hold results."""
    return change.action is Action.REPLACE and change.reason not in _NOT_RUNNING


def _group(name: str) -> str:
    return split_name(name)[0]


def _running_workers(refreshed: RefreshResult) -> set[str]:
    """Return the workers whose VM runs, as far as is known."""
    return {
        name
        for name, record in refreshed.state.nodes.items()
        if name != SCHEDULER
        and name not in refreshed.gone
        and record.status != "terminating"
        and ((vm := refreshed.observed.get(name)) is None or vm.is_active)
    }


def _split(
    replaced: Collection[str],
    group: Group,
    running: Collection[str],
    refreshed: RefreshResult,
    missing: int,
) -> list[list[str]]:
    """Return a group's replaced nodes in waves; nodes that have not joined come first.

    The first wave is smaller by the number of nodes that are `missing`.
    """
    nodes = refreshed.state.nodes
    names = sorted(
        (name for name in replaced if _group(name) == group.name),
        key=lambda name: nodes[name].status == "joined",
    )
    size = group.wave_size(sum(_group(name) == group.name for name in running))
    first = size if group.max_unavailable == AT_ONCE else max(0, size - missing)
    return [names[:first], *(names[i : i + size] for i in range(first, len(names), size))]


def _merge(by_group: Mapping[str, list[list[str]]]) -> Waves:
    """Return the waves of all groups, side by side."""
    return tuple(
        tuple(name for part in wave for name in part)
        for wave in zip_longest(*by_group.values(), fillvalue=[])
    )


def _remaining(changes: Collection[Change], waves: Waves, running: Collection[str]) -> set[str]:
    """Return the running workers that stay during the first wave."""
    destroyed = {change.name for change in changes if change.action is Action.DESTROY}
    return {*running} - destroyed - {*waves[0]}
