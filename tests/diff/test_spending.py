"""Cost of a cluster since it was created, and progress of a change."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planapply.diff.progress import Snapshot, compare, has_no_open_requests
from planapply.diff.spending import add_spending
from planapply.model.history import Spend
from planapply.model.node import NodeConfig
from planapply.model.state import Choice, Intent, NodeRecord, Resource, State

HOUR = 3600.0
CONFIGS = {
    "c": NodeConfig(group="cpu", cls="distributed.Nanny"),
    "ttl": NodeConfig(group="cpu", cls="distributed.Nanny", ttl=2 * HOUR),
}
USD = {"m": 1.0, "l": 4.0}


def vm(id: str = "i-0", **values: Any) -> NodeRecord:
    return NodeRecord(
        **{"vm": id, "config": "c", "batch": "b", "size": "m", "launched_at": 0.0, **values}
    )


def spend(spent: Spend | None, *records: NodeRecord, now: float, gone: tuple[str, ...] = ()) -> Any:
    found = add_spending(spent, records, CONFIGS, lambda r: USD.get(r.size or ""), now, gone)
    return found.usd, found.at_least, found.at_most


def test_each_vm_is_counted_from_the_last_write_or_its_launch() -> None:
    before = Spend(usd=10.0, until=2 * HOUR)
    launched_since = vm("i-1", size="l", launched_at=3 * HOUR)
    assert spend(before, vm(), launched_since, now=4 * HOUR) == (16.0, False, False)


def test_without_a_record_vms_are_counted_since_their_launch() -> None:
    """A state of an older version: what terminated VMs have cost is not known."""
    assert spend(None, vm(), now=3 * HOUR) == (3.0, True, False)


def test_unknown_prices_make_it_a_minimum() -> None:
    before = Spend(usd=1.0, until=HOUR)
    assert spend(before, vm(), vm("i-1", size="odd"), now=2 * HOUR) == (2.0, True, False)
    assert spend(before, vm(size="odd", launched_at=2 * HOUR), now=2 * HOUR) == (1.0, False, False)


def test_a_vm_that_ended_by_itself_is_counted_until_it_is_found_gone() -> None:
    before = Spend(until=0.0)
    assert spend(before, vm(), now=5 * HOUR, gone=("i-0",)) == (5.0, False, True)
    assert spend(before, vm(config="ttl"), now=5 * HOUR, gone=("i-0",)) == (2.0, False, True)
    # Once it is counted for its whole life, nothing is added.
    later = Spend(usd=2.0, until=5 * HOUR)
    assert spend(later, vm(config="ttl"), now=9 * HOUR, gone=("i-0",)) == (2.0, False, False)


def test_a_clock_that_went_back_adds_nothing() -> None:
    assert spend(Spend(usd=1.0, until=9 * HOUR), vm(), now=2 * HOUR) == (1.0, False, False)
    assert spend(Spend(usd=1.0, until=9 * HOUR), vm(launched_at=None), now=2 * HOUR)[0] == 1.0


@given(st.lists(st.floats(0, 100 * HOUR), min_size=1, max_size=8))
def test_it_does_not_matter_how_often_it_is_computed(times: list[float]) -> None:
    found = Spend(until=0.0)
    for now in sorted(times):
        found = add_spending(found, [vm(size="l")], CONFIGS, lambda r: 4.0, now)
    assert math.isclose(found.usd, 4.0 * max(times) / HOUR, abs_tol=1e-5)


def state(*records: NodeRecord, **values: Any) -> State:
    nodes = {f"cpu-{record.vm[-1]}": record for record in records}
    return State(lineage="l", cluster="c", provider="p", nodes=nodes, **values)


def test_what_was_done_is_counted_by_vm() -> None:
    group = {"group": Resource(kind="group", id="sg-1")}
    before = Snapshot.of(state(vm("i-0"), vm("i-1"), vm("i-2")))
    after = Snapshot.of(state(vm("j-0"), vm("i-1", tags={"a": "b"}), vm("i-2"), resources=group))
    done = compare(before, after)
    # cpu-0 was replaced; the security group was created.
    assert (done.added, done.changed, done.destroyed) == (2, 1, 1)
    assert done.groups == {"cpu"}


def test_a_vm_that_was_gone_is_not_destroyed() -> None:
    old, new = state(vm("i-0")), state(vm("j-0"))
    done = compare(Snapshot.of(old, {"i-0"}), Snapshot.of(new, {"i-0"}))
    assert (done.added, done.destroyed) == (1, 0)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (state(vm()), True),
        (state(vm(status="terminating")), False),
        (
            state(
                intents={
                    "t": Intent(names=["cpu-1"], config="c", choice=Choice(), requested_at=0.0)
                }
            ),
            False,
        ),
    ],
)
def test_state_without_open_requests(found: State, expected: bool) -> None:
    assert has_no_open_requests(found) is expected
