"""Properties of the plans of `watch`: lost nodes come back, and nothing else changes."""

from collections.abc import Collection

from diff.model import empty_state, simulate_apply, vms
from diff.test_properties import LATER, desireds, seen
from hypothesis import assume, given
from hypothesis import strategies as st

from planapply.diff import RefreshResult, create_plan, refresh
from planapply.diff.heal import MIN_LIFE, HealOptions, HealPlan, create_heal_plan
from planapply.model.desired import DesiredState, Group
from planapply.model.names import SCHEDULER, split_name
from planapply.model.node import VM, NodeConfig
from planapply.model.plan import Action, ChangeReason, Mode
from planapply.model.state import Intent, State
from planapply.model.watch import MAX_ATTEMPTS


def applied(spec: DesiredState) -> State:
    """Return the state of an applied spec, all of whose nodes joined long ago."""
    state = simulate_apply(create_plan(spec, seen(empty_state())), seen(empty_state()))
    for record in state.nodes.values():
        record.status, record.joined_at = "joined", 0.0
    return state


def without(state: State, lost: Collection[str], status: str = "") -> RefreshResult:
    """Return the state and the cloud after these nodes were lost: gone, or with this status."""
    ids = {state.nodes[name].vm for name in lost}
    shown = [
        vm.model_copy(update={"status": status}) if vm.id in ids else vm
        for vm in vms(state)
        if status or vm.id not in ids
    ]
    return refresh(state, shown, LATER, 60.0)


def some(data: st.DataObject, names: Collection[str]) -> set[str]:
    workers = sorted({*names} - {SCHEDULER})
    return set(data.draw(st.lists(st.sampled_from(workers), unique=True))) if workers else set()


def heal(spec: DesiredState, refreshed: RefreshResult, **options: object) -> HealPlan:
    return create_heal_plan(spec, refreshed, HealOptions(**{"now": LATER, **options}))  # type: ignore[arg-type]


def next_state(healed: HealPlan, refreshed: RefreshResult) -> State:
    state = simulate_apply(healed.plan, refreshed)
    state.attempts = {name: [*vms] for name, vms in healed.attempts.items()}
    return state


@given(desireds(), st.sampled_from(["", "stopped", "stopping"]), st.data())
def test_relaunches_what_is_lost_and_touches_nothing_else(
    spec: DesiredState, status: str, data: st.DataObject
) -> None:
    state = applied(spec)
    lost = some(data, state.nodes)
    refreshed = without(state, lost, status)
    healed = heal(spec, refreshed)
    assert healed.plan.mode is Mode.HEAL
    assert healed.given_up == ()
    after = next_state(healed, refreshed)
    for name, record in state.nodes.items():
        if name not in lost:
            assert after.nodes[name] == record
    for group in spec.groups:
        members = [name for name in after.nodes if split_name(name)[0] == group.name]
        if group.count is not None:
            assert sorted(members) == sorted(f"{group.name}-{i}" for i in range(group.count))
        else:
            assert (group.min or 0) <= len(members) <= (group.max or 0)
            assert not lost.intersection(members)  # no index is used twice
    assert heal(spec, seen(after)).plan.changes == ()


@given(desireds(), desireds(), st.data())
def test_changed_spec_replaces_nothing(
    old: DesiredState, new: DesiredState, data: st.DataObject
) -> None:
    state = applied(old)
    lost = some(data, state.nodes)
    bounds = {group.name: group.max for group in new.groups if group.count is None}
    for change in heal(new, without(state, lost)).plan.changes:
        assert change.name != SCHEDULER
        if change.name in state.nodes and change.name not in lost:
            assert (
                change.action is Action.DESTROY
            )  # only an elastic group above its maximum shrinks
            assert split_name(change.name)[0] in bounds


@given(desireds(), st.data())
def test_protected_cluster_loses_no_running_node(spec: DesiredState, data: st.DataObject) -> None:
    state = applied(spec)
    lost, late, notices = (some(data, state.nodes) for _ in range(3))
    groups = [g.model_copy(update={"max": g.min}) if g.max else g for g in spec.groups]
    protected = spec.model_copy(update={"protect": True, "groups": tuple(groups)})
    plan = heal(protected, without(state, lost), not_joined=late, notices=notices).plan
    assert {c.name for c in plan.changes if c.action is not Action.CREATE} <= lost


@given(desireds(), st.data())
def test_load_sizes_a_group_within_its_bounds(spec: DesiredState, data: st.DataObject) -> None:
    elastic = [group for group in spec.groups if group.count is None]
    assume(elastic)
    group = elastic[0]
    size = data.draw(st.integers(0, 9))
    state = applied(spec)
    lost = some(data, state.nodes)
    refreshed = without(state, lost)
    healed = heal(spec, refreshed, sizes={group.name: size})
    after = next_state(healed, refreshed)
    members = [name for name in after.nodes if split_name(name)[0] == group.name]
    assert len(members) == min(max(size, group.min or 0), group.max or 0)


@given(desireds(), st.data())
def test_launches_no_node_more_often_than_the_attempts_allow(
    spec: DesiredState, data: st.DataObject
) -> None:
    """Each node has at most three VMs, if all of them are lost soon after their launch."""
    state = applied(spec)
    for record in state.nodes.values():
        record.status, record.joined_at, record.launched_at = "launched", None, LATER - 100
    total, nodes = 0, len(state.nodes) - 1
    while True:
        lost = {name for name in state.nodes if name != SCHEDULER and name not in given_up(state)}
        healed = heal(spec, refreshed := without(state, lost))
        if not healed.plan.changes:
            break
        if data.draw(st.booleans()):  # the process died after its first write
            state.attempts = {name: [*ids] for name, ids in healed.attempts.items()}
            healed = heal(spec, refreshed := without(state, lost))
        total += healed.plan.summary["add"]
        state = next_state(healed, refreshed)
        for record in state.nodes.values():
            record.launched_at = LATER - 100
    assert total == nodes * (MAX_ATTEMPTS - 1)
    assert {*healed.given_up} == {*state.nodes} - {SCHEDULER}


def given_up(state: State) -> set[str]:
    return {n for n, ids in state.attempts.items() if len(ids) >= MAX_ATTEMPTS}


CPU = NodeConfig(group="cpu", cls="distributed.Nanny")
SCHEDULER_CONFIG = NodeConfig(group=SCHEDULER, cls="distributed.Scheduler")


def cluster(**group: int) -> DesiredState:
    return DesiredState(
        cluster="c",
        provider="p",
        scheduler=SCHEDULER_CONFIG,
        groups=(Group(name="cpu", config=CPU, **group),),
        spec_digest="d",
    )


def test_long_life_begins_again() -> None:
    spec = cluster(count=1)
    state = applied(spec)
    record = state.nodes["cpu-0"]
    state.attempts = {"cpu-0": ["v-1", "v-2"]}
    record.joined_at = 100.0
    refreshed = without(state, ["cpu-0"])
    early = heal(spec, refreshed, now=100.0 + MIN_LIFE)
    assert (early.given_up, early.attempts) == (("cpu-0",), {"cpu-0": ["v-1", "v-2", record.vm]})
    assert early.plan.changes == ()
    late = heal(spec, refreshed, now=101.0 + MIN_LIFE)
    assert (late.given_up, late.attempts) == ((), {})
    assert [change.action for change in late.plan.changes] == [Action.CREATE]
    # A clock that was set back makes the node no older.
    assert heal(spec, refreshed, now=50.0).given_up == ("cpu-0",)


def test_long_life_counts_although_nothing_saw_the_node_join() -> None:
    spec = cluster(count=1)
    state = applied(spec)
    record = state.nodes["cpu-0"]
    longest = spec.join_timeout + MIN_LIFE
    record.launched_at, record.joined_at = 100.0, 99.0 + longest  # when the first watcher looked
    refreshed = without(state, ["cpu-0"])
    assert heal(spec, refreshed, now=100.0 + longest).attempts == {"cpu-0": [record.vm]}
    assert heal(spec, refreshed, now=101.0 + longest).attempts == {}


def test_launches_nothing_for_a_cluster_that_is_about_to_end() -> None:
    update = {"scheduler": NodeConfig(group=SCHEDULER, cls="distributed.Scheduler", ttl=7200.0)}
    spec = cluster(count=2).model_copy(update=update)
    state = applied(spec)
    refreshed = without(state, ["cpu-0"])
    assert [c.name for c in heal(spec, refreshed, now=6599.0).plan.changes] == ["cpu-0"]
    assert heal(spec, refreshed, now=6600.0).plan.changes == ()


def test_paused_group_launches_nothing_and_keeps_its_attempts() -> None:
    for spec in (cluster(count=1), cluster(min=1, max=2)):
        state = applied(spec)
        state.attempts = {"cpu-0": [state.nodes["cpu-0"].vm]}
        refreshed = without(state, ["cpu-0"])
        paused = heal(spec, refreshed, paused=["cpu"], now=1.0)
        assert not any(change.after for change in paused.plan.changes)
        assert paused.attempts == state.attempts
        after = next_state(paused, refreshed)
        healed = heal(spec, without(after, [n for n in ["cpu-0"] if n in after.nodes]), now=1.0)
        (created,) = [change.name for change in healed.plan.changes if change.after]
        assert healed.attempts == {created: state.attempts["cpu-0"]}


def test_notice_replaces_a_spot_node_under_its_name() -> None:
    for spec in (cluster(count=2), cluster(min=0, max=2)):
        state = applied(spec)
        if not spec.groups[0].count:
            state = applied(cluster(count=2))
        [change] = heal(spec, seen(state), notices=["cpu-1"]).plan.changes
        assert (change.name, change.action) == ("cpu-1", Action.REPLACE)
        assert change.reason is ChangeReason.SPOT_NOTICE
        # Without a successor, the node works until the cloud takes it.
        assert heal(spec, seen(state), notices=["cpu-1"], paused=["cpu"]).plan.changes == ()


def test_nodes_under_notice_leave_in_waves() -> None:
    """Some worker always stays that can take the results."""
    spec = cluster(count=6)
    state = applied(spec)
    names = [f"cpu-{index}" for index in range(6)]
    plan = heal(spec, seen(state), notices=names).plan
    assert plan.waves == (("cpu-0", "cpu-1"), ("cpu-2", "cpu-3"), ("cpu-4", "cpu-5"))
    # What is lost already holds no results, and is launched with the first wave.
    plan = heal(spec, without(state, names[:3]), notices=names[3:]).plan
    assert {change.name for change in plan.changes} == {*names}
    assert plan.waves == (("cpu-3",), ("cpu-4",), ("cpu-5",))
    # One wave needs no waves.
    assert heal(spec, seen(state), notices=names[4:]).plan.waves == ()


def test_node_that_has_not_joined_is_replaced_and_then_left() -> None:
    spec = cluster(count=1)
    state = applied(spec)
    record = state.nodes["cpu-0"]
    record.status, record.joined_at = "launched", None
    healed = heal(spec, seen(state), not_joined=["cpu-0"])
    assert [(c.action, c.reason) for c in healed.plan.changes] == [
        (Action.REPLACE, ChangeReason.NOT_JOINED)
    ]
    assert healed.attempts == {"cpu-0": [record.vm]}
    state.attempts = {"cpu-0": ["v-1", "v-2"]}
    left = heal(spec, seen(state), not_joined=["cpu-0"])
    assert (left.plan.changes, left.given_up) == ((), ("cpu-0",))


def test_resolves_open_requests_and_terminates_duplicates() -> None:
    spec = cluster(count=2)
    state = applied(spec)
    del state.nodes["cpu-1"]
    state.intents["t"] = Intent(
        names=["cpu-1"],
        config=CPU.digest,
        choice={},
        requested_at=0.0,  # type: ignore[arg-type]
    )
    tags = {"planapply:names": "cpu-0", "planapply:batch": "b"}
    stray = VM(id="v-9", tags=tags, launched_at=5.0)
    plan = heal(spec, refresh(state, [*vms(state), stray], LATER, 60.0)).plan
    assert [(c.name, c.action, c.reason) for c in plan.changes] == [
        ("cpu-1", Action.CREATE, ChangeReason.REQUEST_UNRESOLVED),
        ("v-9", Action.DESTROY, ChangeReason.DUPLICATE_VM),
    ]
