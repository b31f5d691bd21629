"""Node names, and ranges of them.

Ranges have two forms: hostlist syntax, `cpu-[0-19]`, for people (`to_hostlist`, `format_names`); and
`cpu-[0..19]` in tags and stored files (`to_ranges`), which older versions of planapply read as well. All
functions that read ranges accept both.
"""

import re
import unicodedata
from collections.abc import Iterable

SCHEDULER = "scheduler"
GROUP_NAME = re.compile(r"(?!scheduler$)(?!.*-[0-9]+$)[A-Za-z][A-Za-z0-9-]*", re.ASCII)
CLUSTER_NAME_RULE = "a cluster name is 1 to 63 letters, digits, and hyphens, and neither begins nor ends with a hyphen"
_CLUSTER_NAME = re.compile(r"(?!.{64})[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?", re.ASCII)
MAX_NODES = 100_000
"""Maximum number of nodes in a group."""
_MAX_INDEX = 10**9
"""Larger than any index, since an index is never used twice in an elastic group."""
# Limits on the number of digits, because Python refuses to convert thousands of them.
_NODE = re.compile(r"(?P<group>.+)-(?P<index>0|[1-9][0-9]{0,99})")
_RANGE = re.compile(r"(?P<group>.+)-\[(?P<first>[0-9]{1,99})(?:\.\.|-)(?P<last>[0-9]{1,99})\]")


def is_cluster_name(name: str) -> bool:
    """Return whether a cluster can have this name."""
    return _CLUSTER_NAME.fullmatch(name) is not None


def suggest_cluster_name(text: str, max_length: int) -> str:
    """Return a valid cluster name similar to `text`, such as a folder's name; `example` if none is."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9]+", "-", ascii_text).strip("-")[:max_length].rstrip("-")
    return name or "example"


def node_name(group: str, index: int) -> str:
    """Return the name of the node with this index (from 0) in a worker group."""
    return f"{group}-{index}"


def is_node_name(name: str) -> bool:
    """Return whether a node can have this name, which may come from a tag of another user."""
    group, index = split_name(name)
    return name == SCHEDULER or (
        name != group and GROUP_NAME.fullmatch(group) is not None and index <= _MAX_INDEX
    )


def split_name(name: str) -> tuple[str, int]:
    """Return a node's group and index; for the scheduler, and for any other name, itself and 0."""
    match = None if name == SCHEDULER else _NODE.fullmatch(name)
    return (match["group"], int(match["index"])) if match else (name, 0)


def sort_key(name: str) -> tuple[bool, str, int]:
    """Return a key that sorts the scheduler first, then groups by name, and nodes by number."""
    group, index = split_name(name)
    return (name != SCHEDULER, group, index)


def step_between(name: str, other: str) -> int:
    """Return 1 if `other` is the next node of the same group, -1 if it is the previous one, else 0."""
    (group, index), (other_group, other_index) = split_name(name), split_name(other)
    step = other_index - index
    return step if group == other_group and abs(step) == 1 else 0


def _fold(names: Iterable[str], separator: str) -> list[str]:
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
        else (node_name(group, first) if first == last else f"{group}-[{first}{separator}{last}]")
        for group, first, last in runs
    ]


def to_ranges(names: Iterable[str]) -> list[str]:
    """Return the names, in their order, with consecutive nodes of a group as `cpu-[0..19]`.

    Use this form in tags and files only. `from_ranges` returns the same names in the same order: a VM's
    index in its batch selects a name.
    """
    return _fold(names, "..")


def to_hostlist(names: Iterable[str]) -> list[str]:
    """Return the names, in their order, with consecutive nodes of a group as `cpu-[0-19]`."""
    return _fold(names, "-")


def format_names(names: Iterable[str]) -> str:
    """Return the names as people read them, sorted: `scheduler, cpu-[0-1]`."""
    return ", ".join(to_hostlist(sorted(names, key=sort_key)))


def from_ranges(ranges: Iterable[str]) -> list[str]:
    """Return the names in ranges of either form.

    A range with more nodes than a group can have is returned as it is, as if it were a name.
    """
    names: list[str] = []
    for text in ranges:
        match = _RANGE.fullmatch(text)
        first, last = (int(match["first"][:9]), int(match["last"][:9])) if match else (0, 0)
        if match and last - first < MAX_NODES:
            names += [node_name(match["group"], index) for index in range(first, last + 1)]
        else:
            names.append(text)
    return names


def suggest_range(text: str) -> str:
    """Return a valid range to write in place of `text`; empty if `text` is a range, or has no brackets."""
    match = _RANGE.fullmatch(text)
    if match and int(match["first"]) > int(match["last"]):
        return f"{match['group']}-[{match['last']}-{match['first']}]"
    if match or not set(text) & set("[]"):
        return ""
    group = re.match("[A-Za-z][A-Za-z0-9-]*", text, re.ASCII)
    return f"{group[0].rstrip('-') if group else 'cpu'}-[0-3]"


def name_at(ranges: Iterable[str], index: int) -> str | None:
    """Return `from_ranges(ranges)[index]`, or None if there is none, without creating the list."""
    for text in ranges:
        match = _RANGE.fullmatch(text)
        first, last = (int(match["first"]), int(match["last"])) if match else (0, 0)
        if 0 <= index <= last - first:
            return node_name(match["group"], first + index) if match else text
        index -= last - first + 1
    return None


def worker_names(name: str, processes: int) -> list[str]:
    """Return the names of a node's Dask workers: the node's own, or one for each of its processes."""
    return [name] if processes == 1 else [f"{name}-{i}" for i in range(processes)]
