"""scale: changes of a running cluster: lock -> read -> refresh -> resolve intents -> change -> unlock."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from planapply.diff import RefreshResult
from planapply.diff.desired_nodes import new_names
from planapply.fleet import Fleet, Journal, Listener
from planapply.model.history import CLUSTER_CHANGE
from planapply.model.names import split_name
from planapply.model.node import NodeConfig
from planapply.model.plan import Action, Change, ChangeReason, Mode, Plan
from planapply.model.state import TLS, State
from planapply.ops.apply import discard_key, lock, make_recorder, open_fleet
from planapply.ops.cost import CostLimits, add_cost, make_budget
from planapply.ops.end_reasons import explain_ends, record_ends
from planapply.ops.node_secrets import check_secrets
from planapply.ops.plan import PlanOptions, check_same_cluster, plan_from
from planapply.ops.preflight import check_plan
from planapply.ops.record import Recorder, load_prices
from planapply.ops.refresh import refresh_state
from planapply.ops.resize import check_scheduler
from planapply.ops.resolve import resolve_spec
from planapply.ops.workspace import Workspace
from planapply.store import LockInfo


@dataclass(frozen=True)
class LockedCluster:
    """The locked state of a running cluster."""

    fleet: Fleet
    recorder: Recorder
    gone: frozenset[str] = frozenset()
    """Nodes whose VM no longer exists."""


@contextmanager
def open_for_change(
    workspace: Workspace, timeout: float, on_event: Listener
) -> Iterator[LockedCluster]:
    """Lock, read, and refresh the state for one change, and resolve its intents.

    `timeout` is how many seconds to wait for the lock. Raises PlanapplyError.
    """
    with lock(workspace, "scale", timeout, on_event) as held:
        state = workspace.read()
        workspace.follow(state)
        locked = _open(workspace, state, held, CLUSTER_CHANGE, on_event)
        with _record(locked):
            yield locked


@contextmanager
def open_as_owner(
    workspace: Workspace, tls: TLS | None, timeout: float, on_event: Listener
) -> Iterator[LockedCluster]:
    """Open the state like `open_for_change`; create a cluster that does not exist, and clean up after it.

    Use it for an owner that launches and destroys the whole cluster. `tls` is the key pair of a new
    cluster. When the last node is gone, everything else is removed, too.
    """
    with lock(workspace, "SpecCluster", timeout, on_event) as held:
        state = workspace.store.read()
        if state is None or state.is_empty:
            locked = _create_cluster(workspace, state, tls, held, on_event)
        else:
            locked = _open(workspace, state, held, "SpecCluster", on_event)
        with _record(locked):
            yield locked
            _clean_up(locked.fleet)


@contextmanager
def _record(locked: LockedCluster) -> Iterator[None]:
    journal, recorder = locked.fleet.journal, locked.recorder
    with recorder.watch(journal):
        yield
        recorder.finish(journal, "done" if journal.read(recorder.is_complete) else "incomplete")


def reserve_names(
    workspace: Workspace, locked: LockedCluster, group: str, count: int
) -> tuple[list[str], NodeConfig]:
    """Reserve names for `count` more nodes of an elastic group; return them and their configuration.

    A name is never used twice. Raises PlanapplyError if the next apply would replace the nodes, if they
    exceed `max_cost`, and if their launch is known to fail.
    """
    assert workspace.spec is not None
    fleet = locked.fleet
    state = fleet.journal.read(lambda state: state)
    plugin = workspace.plugin(state)
    desired_state, pins = resolve_spec(plugin, fleet.client, workspace.spec, state)
    check_same_cluster(desired_state, state, plugin)
    check_scheduler(desired_state, state)
    [config] = [g.config for g in desired_state.groups if g.name == group]
    names = new_names(group, count, state)
    plan = Plan(
        cluster=state.cluster,
        provider=state.provider,
        mode=Mode.SCALE,
        lineage=state.lineage,
        serial=state.serial,
        spec_digest=None,
        configs={config.digest: config},
        changes=tuple(
            Change(name=name, action=Action.CREATE, reason=ChangeReason.SCALED, after=config.digest)
            for name in names
        ),
    )
    check_plan(plan, fleet.client)
    check_secrets(plan, fleet.client)
    add_cost(plan, RefreshResult(state, locked.gone), fleet.client, CostLimits.of(desired_state))

    def reserve(state: State) -> None:
        state.next_index[group] = split_name(names[-1])[1] + 1
        state.pins = {**state.pins, **pins}

    locked.recorder.expected.update(names)
    fleet.journal.update(reserve)
    return names, config


def _open(
    workspace: Workspace, state: State, held: LockInfo, what: str, on_event: Listener
) -> LockedCluster:
    client = workspace.connect(state)
    refreshed = explain_ends(client, refresh_state(workspace, client, state))
    record_ends(refreshed.state, refreshed, workspace.clock.time())
    prices = load_prices(client, refreshed.state.nodes.values())
    recorder = Recorder(
        what,
        held,
        workspace.clock,
        refreshed.state,
        prices=prices,
        gone=refreshed.gone,
        adopted=refreshed.adopted,
    )
    journal = Journal(workspace.store, refreshed.state, recorder.stamp)
    max_cost = workspace.spec.cluster.max_cost if workspace.spec else None
    budget = make_budget(client, refreshed, max_cost)
    fleet = Fleet(client, journal, on_event=on_event, budget=budget)
    if refreshed.adopted:
        journal.update(lambda _: None)
    if refreshed.state.intents:  # after a crash or a lost response
        fleet.resolve_intents({})
    return LockedCluster(fleet, recorder, refreshed.gone)


def _create_cluster(
    workspace: Workspace,
    state: State | None,
    tls: TLS | None,
    held: LockInfo,
    on_event: Listener,
) -> LockedCluster:
    planned = plan_from(workspace, state, PlanOptions())
    if planned.existing is not None:
        raise planned.existing
    check_secrets(planned.plan, planned.client)
    recorder = make_recorder("SpecCluster", held, workspace, planned)
    fleet = open_fleet(workspace, planned, recorder, on_event, None)
    if tls is not None:
        fleet.journal.update(lambda state: setattr(state, "tls", tls))
    fleet.prepare(planned.resources, planned.plan.tags)
    return LockedCluster(fleet, recorder)


def _clean_up(fleet: Fleet) -> None:
    """Record the endpoint; if the cluster has no nodes left, remove its resources and its key."""
    fleet.record_endpoint()
    if fleet.journal.read(lambda state: not (state.nodes or state.intents)):
        fleet.cleanup()
        discard_key(fleet.journal)
