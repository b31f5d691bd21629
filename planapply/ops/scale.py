"""A cluster that a Python session changes: lock -> read -> refresh -> settle -> change -> unlock."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from planapply.diff import Refreshed, is_current, refresh
from planapply.diff.desired_nodes import known_names
from planapply.fleet import Fleet, Journal, Listener
from planapply.model.diagnostics import PlanapplyError
from planapply.model.names import node_name, split_name
from planapply.model.node import NodeConfig
from planapply.model.plan import Action, Change, Plan
from planapply.model.state import TLS, State
from planapply.ops.apply import lock, open_fleet
from planapply.ops.cost import priced
from planapply.ops.plan import PlanOptions, check_same_cluster, plan_from
from planapply.ops.preflight import check
from planapply.ops.resolve import pinned
from planapply.ops.workspace import Workspace, asking
from planapply.provider import Provider


@dataclass(frozen=True)
class Opened:
    """The locked state of a cluster that runs."""

    fleet: Fleet
    gone: frozenset[str] = frozenset()
    """Nodes whose VM the cloud does not show any more."""


def look(workspace: Workspace) -> Refreshed:
    """What runs; changes nothing, needs no lock. Raises PlanapplyError where there is no state."""
    state = workspace.read()
    return _refreshed(workspace, workspace.connect(state), state)


@contextmanager
def changing(workspace: Workspace, timeout: float, tell: Listener) -> Iterator[Opened]:
    """One change: what others did since the last one is in the state that it opens.

    `timeout` in seconds is how long it waits for somebody else's lock. Raises PlanapplyError.
    """
    with lock(workspace, "scale", timeout, tell):
        yield _open(workspace, workspace.read(), tell)


@contextmanager
def owning(
    workspace: Workspace, tls: TLS | None, timeout: float, tell: Listener
) -> Iterator[Opened]:
    """As `changing`, for who launches and ends the whole cluster: its first change makes the state.

    `tls` is the key pair that a new cluster gets. When the last node has ended, so has the rest.
    """
    with lock(workspace, "SpecCluster", timeout, tell):
        state = workspace.store.read()
        if state is None or state.is_empty:
            opened = _begin(workspace, state, tls, tell)
        else:
            opened = _open(workspace, state, tell)
        yield opened
        _conclude(opened.fleet)


def grow(
    workspace: Workspace, opened: Opened, group: str, count: int
) -> tuple[list[str], NodeConfig]:
    """Names for `count` more nodes of an elastic group, never to be given again, and their config.

    Raises PlanapplyError where they would be replaced by the next apply, cost too much, or are
    known to fail.
    """
    assert workspace.spec is not None
    fleet = opened.fleet
    state = fleet.journal.read(lambda state: state)
    plugin = workspace.plugin(state)
    want, pins = pinned(workspace, plugin, fleet.provider, workspace.spec, state)
    check_same_cluster(want, state, plugin)
    if state.scheduler is None or not is_current(state.scheduler, want.scheduler, state.configs):
        raise PlanapplyError(
            "the spec of the scheduler has changed since it was applied",
            "Nodes that were launched now would be replaced: run `planapply apply` first.",
        )
    [config] = [of.config for of in want.groups if of.name == group]
    names = _next_names(state, group, count)
    plan = Plan(
        cluster=state.cluster,
        provider=state.provider,
        lineage=state.lineage,
        serial=state.serial,
        spec_digest=None,
        configs={config.digest: config},
        changes=tuple(
            Change(name=name, action=Action.CREATE, reason="scale", after=config.digest)
            for name in names
        ),
    )
    check(workspace, plan, fleet.provider)
    asking(lambda: priced(plan, state, fleet.provider, want.max_cost))

    def reserve(state: State) -> None:
        state.next_index[group] = split_name(names[-1])[1] + 1
        state.pins = {**state.pins, **pins}

    fleet.journal.update(reserve)
    return names, config


def _next_names(state: State, group: str, count: int) -> list[str]:
    taken = [index for of, index in map(split_name, known_names(state)) if of == group]
    first = max([state.next_index.get(group, 0), *(index + 1 for index in taken)])
    return [node_name(group, index) for index in range(first, first + count)]


def _refreshed(workspace: Workspace, provider: Provider, state: State) -> Refreshed:
    vms = workspace.find(provider, state)
    return refresh(state, vms, workspace.clock.time(), provider.limits.settle)


def _open(workspace: Workspace, state: State, tell: Listener) -> Opened:
    provider = workspace.connect(state)
    refreshed = _refreshed(workspace, provider, state)
    journal = Journal(workspace.store, refreshed.state)
    fleet = Fleet(provider, journal, workspace.clock, tell=tell)
    if refreshed.adopted:
        journal.update(lambda _: None)
    if refreshed.state.intents:  # left by a process that died, or whose answer was lost
        asking(lambda: fleet.settle({}))
    return Opened(fleet, refreshed.gone)


def _begin(workspace: Workspace, state: State | None, tls: TLS | None, tell: Listener) -> Opened:
    planned = plan_from(workspace, state, PlanOptions())
    fleet = open_fleet(workspace, planned, tell, None)
    if tls is not None:
        fleet.journal.update(lambda state: setattr(state, "tls", tls))
    asking(lambda: fleet.prepare(planned.resources, planned.plan.tags))
    return Opened(fleet)


def _conclude(fleet: Fleet) -> None:
    """The endpoint is where the scheduler is, and nothing is left of a cluster without nodes."""
    fleet.locate()
    if fleet.journal.read(lambda state: not (state.nodes or state.intents)):
        asking(fleet.cleanup)
        if fleet.journal.read(lambda state: state.tls is not None):
            fleet.journal.update(lambda state: setattr(state, "tls", None))
