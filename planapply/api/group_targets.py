"""The bookkeeping of a cluster whose elastic groups are being resized, by node names alone."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from planapply.model.names import node_name, split_name


class GroupView(NamedTuple):
    """The nodes of one group, as this process sees them."""

    specified: Collection[str] = ()
    """Nodes in `worker_spec`."""
    pending: Collection[str] = ()
    """Specified nodes that have not been launched."""
    handles: Collection[str] = ()
    """Nodes in `workers`."""
    running: Collection[str] = ()
    """Nodes whose handle is running, not closing or failed."""
    joined: Collection[str] = ()
    """Nodes with a Dask worker that the scheduler knows."""


class Selection(NamedTuple):
    """The nodes that stay when a group is resized."""

    restore: list[str]
    """Nodes to specify again: their termination has not begun."""
    remove: list[str]
    """Specified nodes to remove, pending nodes aside."""
    missing: int
    """The number of nodes to launch."""


@dataclass
class GroupTargets:
    """The requested sizes of elastic groups, the names granted for new nodes, and the leaving nodes."""

    leaving: set[str] = field(default_factory=set)
    """Nodes that will be terminated whatever the size of their group."""
    next_index: dict[str, int] = field(default_factory=dict)
    """For each group, the first index that was never used, as last read from the state."""
    _sizes: dict[str, int] = field(default_factory=dict)
    _granted: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        """Return whether a size was requested that no change has taken up."""
        return bool(self._sizes)

    def request(self, group: str, nodes: int) -> None:
        """Set the number of nodes that the next change gives the group."""
        self._sizes[group] = nodes

    def take(self) -> dict[str, int]:
        """Return the requested sizes by group, and clear them."""
        sizes, self._sizes = self._sizes, {}
        return sizes

    def remove(self, group: str, view: GroupView, names: Collection[str]) -> None:
        """Mark nodes of the group as leaving, and reduce its requested size by them.

        The size is not reduced below the number of specified nodes that remain: another process may
        have launched more nodes since the size was requested.
        """
        self.leaving |= {*names} & {*view.handles}
        if (size := self._sizes.get(group)) is not None:
            remaining = len({*view.specified} - {*names})
            self._sizes[group] = min(size, max(size - len(names), remaining))

    def select(self, view: GroupView, nodes: int) -> Selection:
        """Select the nodes that stay when the group gets this number of nodes.

        Nodes that have not joined go first, then those with the highest indexes.
        """
        staying = {*view.running} - self.leaving
        restore = staying - {*view.specified}
        existing = ({*view.specified} - {*view.pending}) | restore
        joined = {*view.joined}
        ordered = sorted(existing, key=lambda name: (name not in joined, split_name(name)[1]))
        remove = ordered[nodes:]
        return Selection(
            restore=[name for name in sorted_nodes(restore) if name not in remove],
            remove=[name for name in remove if name not in restore],
            missing=max(0, nodes - len(ordered)),
        )

    def provisional_names(self, group: str, view: GroupView, count: int) -> list[str]:
        """Return likely names for new nodes; only a change that holds the lock can grant them."""
        known = {*view.handles, *view.specified} - {*view.pending}
        used = (split_name(name)[1] + 1 for name in known)
        first = max([self.next_index.get(group, 0), *used])
        return [node_name(group, index) for index in range(first, first + count)]

    def grant(self, names: Iterable[str]) -> None:
        """Allow nodes of these names, which the state has reserved, to be launched."""
        for name in names:
            self._granted.add(name)
            group, index = split_name(name)
            self.next_index[group] = max(self.next_index.get(group, 0), index + 1)

    def is_granted(self, name: str) -> bool:
        """Return whether a node of this name may be launched in this change."""
        return name in self._granted

    def end_launch(self) -> set[str]:
        """Return the names that were granted, and clear them: each is used once."""
        granted, self._granted = self._granted, set()
        return granted

    def drop_left(self, present: Collection[Any]) -> None:
        """Forget the leaving nodes that have left."""
        self.leaving &= {*present}


def nodes_in_group(names: Iterable[Any], group: str) -> list[str]:
    """Return the names that are nodes of this group."""
    texts = [name for name in names if isinstance(name, str) and name != group]
    return [name for name in texts if split_name(name)[0] == group]


def sorted_nodes(names: Iterable[str]) -> list[str]:
    """Sort nodes of one group by index."""
    return sorted(names, key=split_name)
