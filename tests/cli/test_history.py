"""`history`, the cost so far, and `max_total_cost`, over the life of a cluster."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from cli.commands import SPEC, Run
from fake_provider import FakeCloud
from inline_snapshot import snapshot
from simulator.simulated import (
    Crash,
    CrashingProvider,
    CrashPoints,
    SimClock,
    SimStore,
    SimWorkspace,
)

from planapply.fleet import LaunchSpec, Stopped
from planapply.model.diagnostics import PlanapplyError
from planapply.model.history import PastChange
from planapply.model.plan import Mode
from planapply.model.spec import Spec
from planapply.model.state import State
from planapply.ops.apply import ApplyOptions, Report, apply
from planapply.ops.history import history
from planapply.ops.plan import PlanOptions
from planapply.ops.record import Recorder
from planapply.ops.scale import open_for_change, reserve_names
from planapply.ops.status import status
from planapply.provider import ErrorKind, Limits, Price, ProviderError
from planapply.store import open_store

HOUR = 3600.0
APPLY_OPTIONS = ApplyOptions(wait=False, parallel=0, retire=False)
ELASTIC = """\
[cluster]
name = "demo"
provider = "fake"
[defaults]
size = "m"
[workers.cpu]
min = 2
max = 8
"""


def apply_fake(run: Run, *options: str) -> Any:
    return run("apply", "--auto-approve", "--no-wait", "--no-retire", *options)


def without_times(out: str) -> str:
    """Return the output with a fixed user, time, and duration of the same width."""
    out = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "2026-03-02 12:00", out)
    out = re.sub(r"12:00:\d\d", "12:00:00", out)
    out = re.sub(r"  0:0\d  ", "  0:00  ", out)
    return re.sub(r"\S+@\S+", "ann@laptop", out)


def recorded() -> State:
    state = open_store("planapply.state.json").read()
    assert state is not None
    return state


def test_history_of_a_life(run: Run, cloud: FakeCloud) -> None:
    Path("planapply.toml").write_text(f'{SPEC}max_unavailable = "100%"\n')
    apply_fake(run, "--set", "workers.cpu.size='odd'")
    apply_fake(run)
    apply_fake(run)  # no changes
    run("state", "rm", "cpu-2")
    run("destroy", "--auto-approve", "--target", "cpu-0", "--no-retire")
    run("destroy", "--auto-approve")
    result = run("history")
    assert (result.code, result.err) == (0, "")
    assert without_times(result.out) == snapshot("""\
Changes of cluster "demo":

  WHEN (UTC)        CHANGES  TIME  USD/H    OUTCOME  WHAT                    WHO
  2026-03-02 12:00  +4       0:00  >= 0.10  done     apply                   ann@laptop
  2026-03-02 12:00  +3 -3    0:00  4.60     done     apply                   ann@laptop
  2026-03-02 12:00           0:00           done     state rm cpu-2          ann@laptop
  2026-03-02 12:00  +1 -1    0:00  3.10     done     destroy --target cpu-0  ann@laptop
  2026-03-02 12:00  -3       0:00  0.00     done     destroy                 ann@laptop

Cost so far: at least 0.00 USD (as of 2026-03-02 12:00:00 UTC)
""")
    document = json.loads(run("history", "--json").out)
    assert [change["outcome"] for change in document["changes"]] == ["done"] * 5
    assert document["changes"][0]["who"] == recorded().history[0].who
    # What `--set` overrides may be a secret.
    assert "odd" not in [change["what"] for change in document["changes"]]
    assert "lock" not in document["changes"][0]


def test_history_needs_a_state_and_no_cloud(run: Run, cloud: FakeCloud) -> None:
    result = run("history")
    assert (result.code, result.out) == (1, "")
    assert "there is no state at" in result.err
    apply_fake(run)
    calls = cloud.calls.total()
    assert run("history", "--state", "planapply.state.json").code == 0
    assert cloud.calls.total() == calls


class Priced(CrashingProvider):
    """A provider whose VMs of size `m` cost 1 USD per hour."""

    def price(self, size: str | None, zone: str | None, spot: bool) -> Price:
        return Price({"m": 1.0}.get(size or ""), "list prices")


class World:
    """A cluster on a simulated clock, which is changed and looked at by one process after another."""

    def __init__(self) -> None:
        self.clock, self.points = SimClock(1), CrashPoints()
        self.store = SimStore(self.points)
        self.cloud = FakeCloud(self.clock, limits=Limits(batch=10, consistency_delay=0.0))

    def workspace(self, *lines: str) -> SimWorkspace:
        document = tomllib.loads(ELASTIC.replace("[defaults]", "\n".join([*lines, "[defaults]"])))
        made = SimWorkspace(self.store, spec=Spec.model_validate(document), clock=self.clock)  # type: ignore[arg-type]
        made.provider = Priced(self.cloud, self.points)
        return made

    def apply(self, *lines: str, options: PlanOptions = PlanOptions()) -> Report:
        self.points.points_left, self.points.is_dead = None, False
        return apply(self.workspace(*lines), lambda plan: True, options, APPLY_OPTIONS)

    def die(self, point: int, *lines: str) -> bool:
        """Apply in a process that dies at this point; return whether it died."""
        self.points.points_left, self.points.is_dead = point, False
        try:
            apply(self.workspace(*lines), lambda plan: True, PlanOptions(), APPLY_OPTIONS)
        except Crash:
            return True
        finally:
            self.points.points_left, self.points.is_dead = None, False
        return False

    @property
    def changes(self) -> list[PastChange]:
        return history(self.workspace()).changes if self.store.disk else []

    @property
    def usd(self) -> tuple[float | None, bool, bool]:
        found = status(self.workspace())
        return found.usd_so_far, found.usd_so_far_at_least, found.usd_so_far_at_most


def test_the_cost_so_far_is_that_of_all_vms() -> None:
    world = World()
    world.apply()
    assert world.usd == (0.0, False, False)
    world.clock.sleep(HOUR)
    assert world.usd == (3.0, False, False)
    with open_for_change(world.workspace(), 0.0, lambda event: None) as locked:
        locked.fleet.terminate(["cpu-1"])
    assert world.usd == (3.0, False, False)
    world.clock.sleep(HOUR)
    assert world.usd == (5.0, False, False)
    world.apply(options=PlanOptions(mode=Mode.DESTROY))
    world.clock.sleep(HOUR)
    # The state of a destroyed cluster keeps both; the next cluster starts at zero.
    assert world.usd == (5.0, False, False)
    assert [change.usd_per_hour for change in world.changes] == [3.0, 2.0, 0.0]
    world.apply()
    assert world.usd == (0.0, False, False)
    assert len(world.changes) == 4


def test_a_vm_that_ended_by_itself_counts_until_it_is_found_gone() -> None:
    world = World()
    world.apply()
    world.clock.sleep(HOUR)
    world.cloud.end_vm(world.store.read().nodes["cpu-0"].vm)  # type: ignore[union-attr]
    world.clock.sleep(HOUR)
    assert world.usd == (6.0, False, True)
    world.apply()
    assert (world.changes[-1].added, world.changes[-1].destroyed) == (1, 0)
    usd, *precision = world.usd
    assert (usd, *precision) == (pytest.approx(6.0, abs=0.01), False, True)


def test_a_state_of_an_older_version_counts_from_the_launches() -> None:
    world = World()
    world.apply()
    state = world.store.read()
    assert state is not None
    state.history, state.spend = [], None
    world.store.write(state)
    world.clock.sleep(HOUR)
    assert world.usd == (3.0, True, False)
    assert not world.apply().writes  # nothing but for the record is a change
    world.apply("tags = { a = 'b' }")
    assert world.usd == (3.0, True, False)


def test_max_total_cost() -> None:
    world = World()
    limit = "max_total_cost = 10.0"
    world.apply(limit)
    world.clock.sleep(8 * HOUR)
    assert not world.apply(limit).failures  # nothing is launched
    with pytest.raises(PlanapplyError) as refused:
        world.apply(limit, "tags = { a = 'b' }", options=PlanOptions(replace=("cpu-0",)))
    assert str(refused.value) == snapshot("""\
the cluster has cost 24.00 USD so far, and with 3.00 USD/h would exceed `max_total_cost` (10.00 USD) within an hour
Make the cluster cheaper than it is (3.00 USD/h), destroy it, or raise `max_total_cost` under [cluster].\
""")
    assert refused.value.code == "max_total_cost_exceeded"
    with (
        open_for_change(world.workspace(limit), 0.0, lambda event: None) as locked,
        pytest.raises(PlanapplyError, match="would exceed `max_total_cost`"),
    ):
        reserve_names(world.workspace(limit), locked, "cpu", 1)
    world.apply("max_total_cost = 27.0", options=PlanOptions(replace=("cpu-0",)))
    world.apply(limit, options=PlanOptions(mode=Mode.DESTROY))
    world.apply(limit)  # another cluster


def test_max_total_cost_of_a_new_cluster() -> None:
    with pytest.raises(PlanapplyError) as refused:
        World().apply("max_total_cost = 2.0")
    assert str(refused.value) == snapshot("""\
the cluster has cost 0.00 USD so far, and with 3.00 USD/h would exceed `max_total_cost` (2.00 USD) within an hour
Make the cluster smaller, or raise `max_total_cost` under [cluster].\
""")


def test_wherever_a_process_dies_its_change_is_in_the_history() -> None:
    point, outcomes = 0, set()
    while True:
        world = World()
        if not world.die(point):
            break
        vms = len(world.cloud.live_vms())
        changes = world.changes
        assert len(changes) == 1 or not vms, point  # begun before anything costs money
        outcomes.update(change.outcome for change in changes)
        world.apply()
        assert world.changes[-1].outcome == "done", point
        assert sum(change.added for change in world.changes) == 3, point
        assert {change.outcome for change in world.changes[:-1]} <= {"interrupted", "done"}
        point += 1
    assert point > 10
    assert outcomes == {"interrupted", "done"}


def test_history_costs_no_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last write of an apply completes its entry."""
    world = World()
    destroy = PlanOptions(mode=Mode.DESTROY)
    writes = [world.apply().writes, world.apply().writes, world.apply(options=destroy).writes]
    assert [change.outcome for change in world.changes] == ["done", "done"]
    monkeypatch.setattr(Recorder, "stamp", lambda self, state: None)
    other = World()
    assert writes == [
        other.apply().writes,
        other.apply().writes,
        other.apply(options=destroy).writes,
    ]
    assert not other.changes


def test_an_apply_that_fails_in_part_is_incomplete() -> None:
    world = World()
    workspace = world.workspace()

    class Full(Priced):
        def launch(self, request: Any) -> Any:
            if "cpu-0" in request.names:
                raise ProviderError(ErrorKind.REJECTED, "no such size")
            return super().launch(request)

    workspace.provider = Full(world.cloud, world.points)
    report = apply(workspace, lambda plan: True, PlanOptions(), APPLY_OPTIONS)
    assert report.failures.keys() == {"cpu-0", "cpu-1"}
    [change] = world.changes
    assert (change.outcome, change.added, change.usd_per_hour) == ("incomplete", 1, 1.0)


def test_a_stopped_apply_is_stopped() -> None:
    world = World()
    workspace = world.workspace()

    class Stopping(Priced):
        def launch(self, request: Any) -> Any:
            if "cpu-0" in request.names:
                raise Stopped
            return super().launch(request)

    workspace.provider = Stopping(world.cloud, world.points)
    with pytest.raises(Stopped):
        apply(workspace, lambda plan: True, PlanOptions(), APPLY_OPTIONS)
    [change] = world.changes
    assert (change.outcome, change.added) == ("stopped", 1)


def test_changes_of_a_cluster_object_are_one_entry() -> None:
    world = World()
    world.apply()
    for number in range(3):
        workspace = world.workspace()
        with open_for_change(workspace, 0.0, lambda event: None) as locked:
            names, config = reserve_names(workspace, locked, "cpu", 1)
            scheduler = locked.fleet.journal.read(lambda state: state.endpoint)
            assert scheduler is not None
            locked.fleet.launch([LaunchSpec(name, config, scheduler.private) for name in names])
        with open_for_change(world.workspace(), 0.0, lambda event: None) as locked:
            locked.fleet.terminate([f"cpu-{number}"])
    [_, change] = world.changes
    assert (change.what, change.group, change.times) == ("Cluster", "cpu", 6)
    assert (change.added, change.destroyed, change.outcome) == (3, 3, "done")


def test_a_launch_that_fails_in_a_cluster_object_is_incomplete() -> None:
    world = World()
    world.apply()
    workspace = world.workspace()
    with open_for_change(workspace, 0.0, lambda event: None) as locked:
        reserve_names(workspace, locked, "cpu", 1)
    assert (world.changes[-1].outcome, world.changes[-1].added) == ("incomplete", 0)
    with pytest.raises(KeyError):
        _fail_after_a_write(world)
    assert world.changes[-1].outcome == "failed"


def _fail_after_a_write(world: World) -> None:
    with open_for_change(world.workspace(), 0.0, lambda event: None) as locked:
        locked.fleet.journal.update(lambda state: None)
        raise KeyError
