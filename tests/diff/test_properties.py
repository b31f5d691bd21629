"""Properties of every plan."""

from diff.model import empty_state, simulate_apply, vms
from hypothesis import given
from hypothesis import strategies as st

from planapply.diff import DiffOptions, create_destroy_plan, create_plan, is_current, refresh
from planapply.model.desired import DesiredState, Group
from planapply.model.names import SCHEDULER
from planapply.model.node import NodeConfig
from planapply.model.plan import Action, DriftKind
from planapply.model.state import State

LATER = 1e6
tags = st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"), max_size=2)
configs = st.builds(
    NodeConfig,
    group=st.just("g"),
    cls=st.just("distributed.Nanny"),
    options=st.dictionaries(st.sampled_from(["nthreads", "name2"]), st.integers(1, 2), max_size=1),
    size=st.lists(st.sampled_from("mno"), unique=True, max_size=3).map(tuple),
    tags=tags,
)


@st.composite
def groups(draw: st.DrawFn, name: str) -> Group:
    config = draw(configs).model_copy(update={"group": name})
    if draw(st.booleans()):
        return Group(name=name, config=config, count=draw(st.integers(0, 4)))
    low, more = draw(st.integers(0, 3)), draw(st.integers(0, 2))
    return Group(name=name, config=config, min=low, max=low + more)


@st.composite
def desireds(draw: st.DrawFn) -> DesiredState:
    names = draw(st.lists(st.sampled_from(["cpu", "gpu", "x-y"]), unique=True))
    return DesiredState(
        cluster="c",
        provider="p",
        scheduler=draw(configs).model_copy(update={"group": SCHEDULER}),
        groups=tuple(draw(groups(name)) for name in names),
        spec_digest="d",
    )


def seen(state: State):  # type: ignore[no-untyped-def]
    return refresh(state, vms(state), LATER, 60.0)


@given(st.lists(desireds(), min_size=1, max_size=4), st.booleans())
def test_applied_plan_leaves_no_changes(specs: list[DesiredState], can_retag: bool) -> None:
    state, options = empty_state(), DiffOptions(can_retag=can_retag)
    given_out: set[str] = set()
    for spec in specs:
        plan = create_plan(spec, seen(state), options)
        for change in plan.changes:
            group = next((g for g in spec.groups if change.name.startswith(f"{g.name}-")), None)
            if change.action is Action.CREATE and group is not None and group.count is None:
                assert change.name not in given_out or change.name in state.nodes
        given_out |= {c.name for c in plan.changes if c.action is Action.CREATE}
        state = simulate_apply(plan, seen(state))
        assert create_plan(spec, seen(state), options).changes == ()
        for group in spec.groups:
            members = [n for n in state.nodes if n.rpartition("-")[0] == group.name]
            if group.count is not None:
                assert sorted(members) == sorted(f"{group.name}-{i}" for i in range(group.count))
            else:
                assert (group.min or 0) <= len(members) <= (group.max or 0)


@given(desireds(), desireds())
def test_replaced_scheduler_replaces_every_kept_worker(a: DesiredState, b: DesiredState) -> None:
    state = simulate_apply(create_plan(a, seen(empty_state())), seen(empty_state()))
    plan = create_plan(b, seen(state))
    actions = {change.name: change.action for change in plan.changes}
    if actions.get(SCHEDULER) is Action.REPLACE:
        assert all(actions[name] in (Action.REPLACE, Action.DESTROY) for name in state.nodes)


@given(desireds(), st.permutations("mno"), st.integers(1, 3), st.booleans())
def test_nodes_whose_size_is_on_the_changed_list_are_kept(
    spec: DesiredState, order: list[str], most: int, more: bool
) -> None:
    state = simulate_apply(create_plan(spec, seen(empty_state())), seen(empty_state()))
    sizes = tuple(order[:most])

    def with_sizes(config: NodeConfig) -> NodeConfig:
        # Not a copy, which would keep the cached digest.
        own = config.model_dump() | {"size": sizes} | ({"processes": 2} if more else {})
        return NodeConfig.model_validate(own)

    groups = [g.model_copy(update={"config": with_sizes(g.config)}) for g in spec.groups]
    update = {"scheduler": with_sizes(spec.scheduler), "groups": tuple(groups)}
    changed = create_plan(spec.model_copy(update=update), seen(state))
    lose = {name for name, record in state.nodes.items() if more or record.size not in sizes}
    scheduler, wanted = state.nodes[SCHEDULER], with_sizes(spec.scheduler)
    assert is_current(scheduler, wanted, state.configs) is (SCHEDULER not in lose)
    if SCHEDULER in lose:
        lose = {*state.nodes}
    assert {c.name for c in changed.changes if c.action is Action.REPLACE} == lose
    assert {c.name for c in changed.changes} == lose


@given(desireds())
def test_destroy_removes_everything_and_the_scheduler_last(spec: DesiredState) -> None:
    state = simulate_apply(create_plan(spec, seen(empty_state())), seen(empty_state()))
    plan = create_destroy_plan(seen(state))
    assert plan.changes[-1].name == SCHEDULER
    assert simulate_apply(plan, seen(state)).is_empty


@given(desireds(), st.data())
def test_lost_vms_are_relaunched_and_unknown_vms_are_found(
    spec: DesiredState, data: st.DataObject
) -> None:
    state = simulate_apply(create_plan(spec, seen(empty_state())), seen(empty_state()))
    shown = vms(state)
    lost = data.draw(st.lists(st.sampled_from(sorted(state.nodes)), unique=True))
    left = [vm for vm in shown if vm.name not in lost]
    refreshed = refresh(state, left, LATER, 60.0)
    assert refreshed.gone == set(lost)
    assert {(item.name, item.kind) for item in refreshed.drift} == {
        (name, DriftKind.GONE) for name in lost
    }
    assert (
        create_plan(spec, seen(simulate_apply(create_plan(spec, refreshed), refreshed))).changes
        == ()
    )
    # A VM whose batch is not known is never adopted, whatever its tags say.
    forgotten = State(lineage="l", cluster="c", provider="p")
    assert refresh(forgotten, shown, LATER, 60.0).state.nodes == {}
    assert len(refresh(forgotten, shown, LATER, 60.0).unknown) == len(shown)
    forgotten.issue(["b"], 0.0)
    found = refresh(forgotten, shown, LATER, 60.0)
    assert found.state.nodes.keys() == state.nodes.keys()
    assert {(item.name, item.kind) for item in found.drift} == {
        (name, DriftKind.ADOPTED) for name in state.nodes
    }


@given(desireds())
def test_invisible_new_vm_is_not_lost(spec: DesiredState) -> None:
    state = simulate_apply(create_plan(spec, seen(empty_state())), seen(empty_state()))
    assert refresh(state, [], 30.0, 60.0).gone == frozenset()
