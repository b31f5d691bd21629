"""Waves of replacements: each node once, never more than allowed, and some worker stays if any can."""

from dataclasses import replace

import pytest
from diff.model import empty_state, simulate_apply
from diff.test_properties import desireds, seen
from hypothesis import given
from hypothesis import strategies as st

from planapply.diff import DiffOptions, RefreshResult, create_plan, loses_results, refresh
from planapply.diff.waves import stops_running_node
from planapply.model.desired import DesiredState, Group
from planapply.model.names import SCHEDULER, split_name
from planapply.model.node import NodeConfig
from planapply.model.plan import Action, ChangeReason, Plan

LIMITS = st.one_of(st.integers(1, 4), st.integers(1, 100).map("{}%".format))


@given(desireds(), desireds(), st.data())
def test_waves_cover_each_launched_node_once(
    before: DesiredState, after: DesiredState, data: st.DataObject
) -> None:
    groups = tuple(
        group.model_copy(update={"max_unavailable": data.draw(LIMITS)}) for group in after.groups
    )
    after = after.model_copy(update={"groups": groups, "scheduler": before.scheduler})
    state = simulate_apply(create_plan(before, seen(empty_state())), seen(empty_state()))
    status = st.sampled_from(["launched", "joined", "terminating"])
    for record in state.nodes.values():
        record.status = data.draw(status)
    if SCHEDULER in state.nodes:
        state.nodes[SCHEDULER].status = "joined"
    gone = data.draw(st.frozensets(st.sampled_from(sorted(state.nodes))))
    refreshed = replace(seen(state), gone=gone - {SCHEDULER})
    plan = create_plan(after, refreshed, DiffOptions(can_retag=True))

    launched = [c for c in plan.changes if c.action in (Action.CREATE, Action.REPLACE)]
    replaced = {c.name for c in launched if stops_running_node(c)}
    limits = {group.name: group for group in groups}
    if all(limits[split_name(name)[0]].max_unavailable == "100%" for name in replaced):
        assert plan.waves == ()
        return
    names = [name for wave in plan.waves for name in wave]
    assert sorted(names) == sorted(change.name for change in launched)
    assert all(plan.waves)
    later = {name for wave in plan.waves[1:] for name in wave}
    assert later <= replaced
    running = {
        name
        for name, record in state.nodes.items()
        if name not in gone | {SCHEDULER} and record.status != "terminating"
    }
    for wave in plan.waves:
        for name, group in limits.items():
            part = [n for n in wave if n in replaced and split_name(n)[0] == name]
            has = sum(split_name(n)[0] == name for n in running)
            limit = group.max_unavailable
            share = limit if isinstance(limit, int) else -(-has * int(limit[:-1]) // 100)
            assert len(part) <= max(1, share)
    for name, group in limits.items():
        first = [n for n in plan.waves[0] if split_name(n)[0] == name]
        missing = [c.name for c in launched if c.name in first and c.reason is not ChangeReason.NEW]
        has = sum(split_name(n)[0] == name for n in running)
        if group.max_unavailable != "100%" and {*missing} & replaced:
            assert len(missing) <= group.wave_size(has)
    destroyed = {c.name for c in plan.changes if c.action is Action.DESTROY}
    stays = running - destroyed - {*plan.waves[0]}
    assert stays or len(plan.waves) == 1
    assert loses_results(plan.changes, plan.waves, refreshed) == (not stays)


def cluster(**groups: dict[str, object]) -> DesiredState:
    return DesiredState(
        cluster="c",
        provider="p",
        scheduler=NodeConfig(group=SCHEDULER, cls="distributed.Scheduler"),
        groups=tuple(
            Group(
                name=name,
                config=NodeConfig(
                    group=name, cls="distributed.Nanny", options={"nthreads": keys.pop("n", 2)}
                ),
                **keys,  # type: ignore[arg-type]
            )
            for name, keys in groups.items()
        ),
        spec_digest="d",
    )


def joined(**counts: int) -> RefreshResult:
    """Return a cluster of these groups with one thread each, all of which have joined."""
    before = cluster(**{name: {"count": count, "n": 1} for name, count in counts.items()})
    state = simulate_apply(create_plan(before, seen(empty_state())), seen(empty_state()))
    for record in state.nodes.values():
        record.status = "joined"
    return seen(state)


@pytest.mark.parametrize(
    ("limit", "sizes"),
    [("25%", [2, 2, 2, 2]), ("1%", [1] * 8), (3, [3, 3, 2]), (9, [8]), ("99%", [8])],
)
def test_size_of_waves(limit: int | str, sizes: list[int]) -> None:
    plan = create_plan(cluster(cpu={"count": 8, "max_unavailable": limit}), joined(cpu=8))
    assert [len(wave) for wave in plan.waves] == sizes


def waves(after: DesiredState, refreshed: RefreshResult) -> tuple[tuple[str, ...], ...]:
    return create_plan(after, refreshed).waves


def test_groups_go_side_by_side() -> None:
    after = cluster(
        a={"count": 4}, b={"count": 2}, c={"count": 2, "max_unavailable": "100%"}, d={"count": 1}
    )
    assert waves(after, joined(a=4, b=2, c=2, d=2)) == (
        ("a-0", "b-0", "c-0", "c-1", "d-0"),
        ("a-1", "b-1"),
        ("a-2",),
        ("a-3",),
    )


def test_a_group_waits_if_otherwise_no_worker_stays() -> None:
    assert waves(cluster(a={"count": 1}, b={"count": 1}), joined(a=1, b=1)) == (("a-0",), ("b-0",))
    at_once = {"count": 1, "max_unavailable": "100%"}
    assert waves(cluster(a={"count": 1}, b=at_once), joined(a=1, b=1)) == (("b-0",), ("a-0",))
    assert waves(cluster(a=at_once, b=at_once), joined(a=1, b=1)) == ()
    assert waves(cluster(a={"count": 1}), joined(a=1)) == (("a-0",),)


def test_new_nodes_are_launched_with_the_first_wave_or_before_it() -> None:
    assert waves(cluster(a={"count": 3}), joined(a=2)) == (("a-2", "a-0"), ("a-1",))
    assert waves(cluster(a={"count": 2}), joined(a=1)) == (("a-1",), ("a-0",))
    assert waves(cluster(a={"count": 3}), joined()) == ()


def test_nodes_that_have_not_joined_come_first() -> None:
    refreshed = joined(a=4)
    refreshed.state.nodes["a-3"].status = "launched"
    assert waves(cluster(a={"count": 4}), refreshed)[0] == ("a-3",)


def test_nodes_that_do_not_run_need_no_wave() -> None:
    refreshed = joined(a=3)
    stopped = refreshed.observed["a-1"].model_copy(update={"status": "stopped"})
    refreshed = replace(refreshed, observed={**refreshed.observed, "a-1": stopped})
    refreshed.state.nodes["a-2"].status = "terminating"
    assert waves(cluster(a={"count": 3, "n": 1}), refreshed) == ()
    assert waves(cluster(a={"count": 3}), refreshed) == (("a-1", "a-2"), ("a-0",))


def test_a_missing_node_counts_as_unavailable() -> None:
    two = {"count": 6, "max_unavailable": 2}
    refreshed = replace(joined(a=6), gone=frozenset({"a-5"}))
    assert waves(cluster(a=two), refreshed) == (("a-5", "a-0"), ("a-1", "a-2"), ("a-3", "a-4"))
    refreshed = replace(joined(a=6), gone=frozenset({"a-4", "a-5"}))
    assert waves(cluster(a=two), refreshed) == (("a-4", "a-5"), ("a-0", "a-1"), ("a-2", "a-3"))


def test_everything_goes_at_once_with_the_scheduler() -> None:
    refreshed, after = joined(a=4), cluster(a={"count": 4, "n": 1})
    plan = create_plan(after, refreshed, DiffOptions(replace=[SCHEDULER]))
    assert (len(plan.changes), plan.waves) == (5, ())
    assert loses_results(plan.changes, plan.waves, refreshed)


def test_an_interrupted_replacement_continues_or_goes_back() -> None:
    """After one of four nodes was replaced, three are left; with the old spec, only that one."""
    refreshed, after = joined(a=4), cluster(a={"count": 4})
    first: Plan = create_plan(after, refreshed)
    state = refreshed.state.model_copy(deep=True)
    one = first.model_copy(update={"changes": first.changes[:1]})
    state = simulate_apply(one, refresh(state, None, 0.0, 0.0))
    now = seen(state)
    assert waves(after, now) == (("a-1",), ("a-2",), ("a-3",))
    assert waves(cluster(a={"count": 4, "n": 1}), now) == (("a-0",),)
