"""One name a node, everywhere; a run of them is written as a range."""

import re
from collections.abc import Iterable

SCHEDULER = "scheduler"
GROUP_NAME = re.compile(r"(?!scheduler$)(?!.*-[0-9]+$)[A-Za-z][A-Za-z0-9-]*", re.ASCII)
CLUSTER_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?", re.ASCII)
MAX_NODES = 100_000
"""In one group."""
_NODE = re.compile(r"(?P<group>.+)-(?P<index>0|[1-9][0-9]*)")
_RANGE = re.compile(r"(?P<group>.+)-\[(?P<first>[0-9]+)\.\.(?P<last>[0-9]+)\]")


def node_name(group: str, index: int) -> str:
    """The name of member `index` (from 0) of a worker group."""
    return f"{group}-{index}"


def split_name(name: str) -> tuple[str, int]:
    """A node's group and index; the scheduler is its own group, with index 0, as is any other name."""
    match = None if name == SCHEDULER else _NODE.fullmatch(name)
    return (match["group"], int(match["index"])) if match else (name, 0)


def sort_key(name: str) -> tuple[bool, str, int]:
    """Orders names as people read them: the scheduler, then groups by name, members by number."""
    group, index = split_name(name)
    return (name != SCHEDULER, group, index)


def to_ranges(names: Iterable[str]) -> list[str]:
    """Names, in the given order, with consecutive members of a group as `cpu-[0..19]`.

    The order is kept, so that `from_ranges` gives the same list: a batch's place picks a name.
    """
    runs: list[tuple[str, int, int]] = []
    for name in names:
        group, index = split_name(name)
        if runs and name != group and runs[-1][0] == group and runs[-1][2] == index - 1:
            runs[-1] = (group, runs[-1][1], index)
        else:
            runs.append((group, index, index) if name != group else (name, -1, -1))
    return [
        group
        if first < 0
        else (node_name(group, first) if first == last else f"{group}-[{first}..{last}]")
        for group, first, last in runs
    ]


def from_ranges(ranges: Iterable[str]) -> list[str]:
    """The names that `to_ranges` was given; a range of more nodes than there can be is a name."""
    names: list[str] = []
    for text in ranges:
        match = _RANGE.fullmatch(text)
        first, last = (int(match["first"][:9]), int(match["last"][:9])) if match else (0, 0)
        if match and last - first < MAX_NODES:
            names += [node_name(match["group"], index) for index in range(first, last + 1)]
        else:
            names.append(text)
    return names


def name_at(ranges: Iterable[str], index: int) -> str | None:
    """`from_ranges(ranges)[index]` at the cost of one name; None where there is none."""
    for text in ranges:
        match = _RANGE.fullmatch(text)
        first, last = (int(match["first"]), int(match["last"])) if match else (0, 0)
        if 0 <= index <= last - first:
            return node_name(match["group"], first + index) if match else text
        index -= last - first + 1
    return None


def worker_names(name: str, processes: int) -> list[str]:
    """The Dask worker names of one node: its own, or one for each of its processes."""
    return [name] if processes == 1 else [f"{name}-{i}" for i in range(processes)]
