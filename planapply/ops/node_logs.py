"""logs: the output of nodes, once or as it is written."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from planapply.background import BackgroundCall
from planapply.bootstrap import MAX_SHUTDOWN_LINES, extract_node_lines
from planapply.diff import select
from planapply.fleet.clock import wait_until
from planapply.model.diagnostics import PlanapplyError
from planapply.model.endpoint import current_endpoint
from planapply.model.names import format_names, sort_key
from planapply.model.state import State
from planapply.ops.log_tail import LogTail
from planapply.ops.logs import find_node
from planapply.ops.workspace import Workspace

FOLLOWED_LINES = 1000
"""Lines of a console that are compared with the earlier ones."""
RECORDED_LINES = 200
"""Messages of each Dask process that one request to the scheduler returns."""
INTERVAL, CLOUD_INTERVAL = 1.0, 5.0
"""Seconds between two rounds: on this machine, and in a cloud, which limits such requests."""
Item = TypeVar("Item")
T = TypeVar("T")


class NodeLog(NamedTuple):
    """The last lines of one node, or the error of reading them."""

    name: str
    text: str = ""
    error: PlanapplyError | None = None


def select_nodes(state: State, targets: Collection[str]) -> list[str]:
    """Return the nodes that `targets` select: names, groups, or ranges; without any, all nodes.

    Raises PlanapplyError for a target that selects no node of the state.
    """
    if not state.nodes:
        raise PlanapplyError(
            f"cannot print logs: cluster {state.cluster!r} has no nodes",
            "Run `planapply apply` first.",
        )
    unresolved = {name for intent in state.intents.values() for name in intent.names}
    for target in targets:
        if target in unresolved - state.nodes.keys():
            find_node(state, target)  # raises
    return sorted(select(targets, state.nodes) if targets else state.nodes, key=sort_key)


def read_logs(workspace: Workspace, targets: Collection[str], lines: int) -> list[NodeLog]:
    """Return the last `lines` lines of each selected node, with the errors of single nodes.

    A node without a console, or whose console is still empty, has the lines that its Dask processes
    remember. Raises PlanapplyError if nothing is selected, or if the only node cannot be read.
    """
    state = workspace.read()
    names = select_nodes(state, targets)
    client = workspace.connect(state)

    def read(name: str) -> NodeLog:
        if not client.has_console:
            return NodeLog(name)
        try:
            text = client.console(state.nodes[name].vm, lines + MAX_SHUTDOWN_LINES)
        except PlanapplyError as error:
            return NodeLog(name, error=_failed(name, error))
        return NodeLog(name, extract_node_lines(text, lines))

    logs = _map_in_background(read, names, client.limits.parallel)
    empty = [log.name for log in logs if not log.text and log.error is None]
    recorded = _read_record(state, empty, lines)
    if not client.has_console and not recorded:
        raise _no_console(state, names)
    logs = [
        NodeLog(log.name, "".join(f"{line}\n" for line in recorded[log.name][-lines:]))
        if log.name in recorded
        else log
        for log in logs
    ]
    if len(logs) == 1 and logs[0].error is not None:
        raise logs[0].error
    return logs


def follow_logs(
    workspace: Workspace,
    targets: Collection[str],
    lines: int,
    show: Callable[[str, Sequence[str]], bool],
) -> list[str]:
    """Show the last `lines` lines of each selected node, then those that it prints, until none exists.

    `show` gets a node's name and its new lines, and returns whether they still have a reader. Nodes that
    join a selected group later are included. Return the nodes that were followed last. Raises
    PlanapplyError like `read_logs`.
    """
    state = workspace.read()
    names = select_nodes(state, targets)
    client = workspace.connect(state)
    if not client.has_console and not _read_record(state, names, 1):
        raise _no_console(state, names)
    tails: dict[str, LogTail] = {}

    def show_new_lines() -> bool:
        """Return True if no node exists any more, or if the lines have no reader."""
        nonlocal names
        state = workspace.read()
        present = _select_present(state, targets)
        if not present:
            return True
        names = present
        consoles: list[str] = [""] * len(names)
        if client.has_console:
            consoles = _map_in_background(
                lambda name: client.console(state.nodes[name].vm, FOLLOWED_LINES),
                names,
                client.limits.parallel,
            )
        # On this machine, the console is the log itself.
        lags = client.costs_money or not client.has_console
        recorded = _read_record(state, names, RECORDED_LINES) if lags else {}
        for name, console in zip(names, consoles, strict=True):
            tail = tails.get(name)
            if tail is None or tail.vm != state.nodes[name].vm:
                tail = tails[name] = LogTail(state.nodes[name].vm)
                new = tail.start(console, lines)
            else:
                new = tail.add_console(console)
            new += tail.add_record(recorded.get(name, ()), lines)
            if not show(name, new):
                return True
        return False

    interval = CLOUD_INTERVAL if client.costs_money else INTERVAL
    wait_until(workspace.clock, show_new_lines, interval=interval, timeout=float("inf"))
    return names


def _select_present(state: State, targets: Collection[str]) -> list[str]:
    if not targets:
        return sorted(state.nodes, key=sort_key)
    found: set[str] = set()
    for target in targets:
        try:
            found |= select([target], state.nodes)
        except PlanapplyError:  # the last node of the target was terminated
            continue
    return sorted(found, key=sort_key)


def _failed(name: str, error: PlanapplyError) -> PlanapplyError:
    return PlanapplyError(
        diagnostics=tuple(
            found.model_copy(
                update={"summary": f"cannot print the output of {name}: {found.summary}"}
            )
            for found in error.diagnostics
        )
    )


def _no_console(state: State, names: Sequence[str]) -> PlanapplyError:
    vms = ", ".join(state.nodes[name].vm for name in names[:3])
    return PlanapplyError(
        f"cannot print the output of {format_names(names)}: the provider {state.provider!r} does not "
        "support it, and the scheduler has no logs of it",
        f"See VM {vms} in the cloud's own tools.",
    )


def _read_record(state: State, names: Collection[str], lines: int) -> Mapping[str, list[str]]:
    """Return the lines that the Dask processes of these nodes remember; empty without a scheduler."""
    endpoint = current_endpoint(state)
    if endpoint is None or not names:
        return {}
    from planapply.dask.recorded_logs import recorded_logs  # imports asyncio

    processes = {
        name: config.processes if (config := state.configs.get(state.nodes[name].config)) else 1
        for name in names
    }
    # In another thread, since a signal's exception would be lost in the event loop.
    [record] = _map_in_background(
        lambda nodes: recorded_logs(endpoint, state.tls, nodes, lines), [processes], 1
    )
    return record


def _map_in_background(
    function: Callable[[Item], T], items: Sequence[Item], parallel: int
) -> list[T]:
    """Return the results of a function; Ctrl-C ends the wait for it."""
    results: list[T] = []
    step = max(1, parallel)
    for first in range(0, len(items), step):
        calls = [
            BackgroundCall(partial(function, item), "planapply")
            for item in items[first : first + step]
        ]
        for call in calls:
            call.start()
        for call in calls:
            while not call.wait():
                pass
            results.append(call.result())
    return results
