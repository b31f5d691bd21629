"""planapply watch: its rounds on a simulated clock, and the command."""

import os
import signal
import time
import tomllib
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli.commands import Run, events
from cli.test_history import Priced
from fake_provider import FakeCloud
from inline_snapshot import snapshot
from simulator.simulated import CrashPoints, SimClock, SimStore, SimWorkspace

from planapply import followup
from planapply.cli.run_watch import WatchRun
from planapply.dask import observe
from planapply.dask.scheduler import SchedulerInfo
from planapply.fleet import Stopped, SystemClock
from planapply.model.end_reason import EndReason
from planapply.model.notice import Notice, NoticeKind
from planapply.model.plan import Mode
from planapply.model.spec import Spec
from planapply.model.state import State
from planapply.ops.apply import ApplyOptions, apply
from planapply.ops.cluster_end import SchedulerLost
from planapply.ops.plan import PlanOptions
from planapply.provider import ErrorKind, LaunchRequest, LaunchResult, Limits
from planapply.store import LockInfo, StateLocked, open_store
from planapply.store.aws import AWSSettings

SPEC = """\
[cluster]
name = "demo"
provider = "fake"
[defaults]
size = "m"
[workers.cpu]
count = 2
"""
Action = Callable[[], None]


class ScriptedClock(SimClock):
    """A clock that runs the next action of a script between two rounds, and stops after the last one."""

    def __init__(self) -> None:
        super().__init__(1)
        self.script: deque[Action] = deque()
        self.pauses: list[float] = []
        self.is_scripted = False

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if not self.is_scripted or seconds < 10.0:
            return
        self.pauses.append(seconds)
        if not self.script:
            raise Stopped
        self.script.popleft()()

    def stop(self) -> None:
        raise AssertionError("nothing sends a signal")


class Store(SimStore):
    """A simulated store that another process may have locked."""

    aws = AWSSettings()

    def __init__(self, location: str) -> None:
        super().__init__(CrashPoints())
        self.location = location
        self.holder: LockInfo | None = None
        self.locked = 0

    def lock(self, purpose: str, timeout: float = 0.0, **options: Any) -> Any:
        if self.holder is not None:
            raise StateLocked(self.location, self.holder, "stop that process.")
        self.locked += 1
        return super().lock(purpose, timeout, **options)


class World:
    """A cluster on a simulated clock, and a scheduler that knows every running node."""

    def __init__(self, folder: Any) -> None:
        self.clock = ScriptedClock()
        self.store = Store("state.json")
        self.cloud = FakeCloud(self.clock, limits=Limits(batch=10, consistency_delay=0.0, poll=0.1))
        self.is_silent = False
        self.not_joining: set[str] = set()
        self.notices: dict[str, Notice] = {}
        self.retired: list[str] = []
        self.not_retired = ""
        """Why the scheduler retires no worker."""

    def workspace(self, spec: str | None = None) -> SimWorkspace:
        made = SimWorkspace(  # type: ignore[call-arg]
            self.store,  # type: ignore[arg-type]
            spec=spec and Spec.model_validate(tomllib.loads(spec)),  # type: ignore[arg-type]
            clock=self.clock,  # type: ignore[arg-type]
        )
        made.provider = Priced(self.cloud, self.store.crash_points)
        return made

    def apply(self, spec: str = SPEC, mode: Mode = Mode.NORMAL) -> None:
        options = ApplyOptions(wait=False, parallel=0, retire=False)
        report = apply(self.workspace(spec), lambda plan: True, PlanOptions(mode), options)
        assert not report.failures

    def watch(self, *script: Action, once: bool = False, json: bool = False) -> int:
        """Watch, with these actions between the rounds; return the exit code."""
        self.clock.script.extend(script)
        self.clock.is_scripted = True
        try:
            return WatchRun(self.workspace(), 30.0, once, json).run()
        finally:
            self.clock.is_scripted = False

    @property
    def state(self) -> State:
        state = self.store.read()
        assert state is not None
        return state

    def end(self, name: str) -> Action:
        """Return the action that terminates a node's VM."""
        return lambda: self.cloud.end_vm(self.state.nodes[name].vm)

    async def retire(
        self, endpoint: Any, tls: Any, names: Any, *, is_healing: bool
    ) -> tuple[frozenset[str], str]:
        assert is_healing
        self.retired += names
        return frozenset(names if self.not_retired else ()), self.not_retired

    def observe(self, *_: Any, workers: bool) -> observe.SchedulerReport | None:
        if self.is_silent:
            return None
        names = frozenset(self.state.nodes.keys() - self.not_joining)
        info = SchedulerInfo("tcp://127.0.0.1:1", names, None) if workers else None
        return observe.SchedulerReport(info, self.notices)


@pytest.fixture
def world(folder: Any, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(folder)
    followup.reset()  # the options of a command that ran before in this process
    monkeypatch.setattr(observe, "observe_scheduler", world.observe)
    monkeypatch.setattr("planapply.dask.execute.retire_workers", world.retire)
    return world


def nothing() -> None:
    """Wait for another round."""


def test_heals_in_rounds(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.apply()
    assert world.watch(nothing, world.end("cpu-1"), nothing, nothing) == 130
    assert capsys.readouterr() == (
        snapshot("""\
Watching cluster "demo" (fake), 2 workers, every 30 s. Ctrl-C leaves it running.
1970-01-12 13:46:40 UTC  joined scheduler, cpu-[0-1]
1970-01-12 13:47:40 UTC  lost cpu-1 (VM i-0002 is gone); launched cpu-1
1970-01-12 13:48:10 UTC  joined cpu-1
"""),
        snapshot("Watch stopped; the cluster is still running.\n"),
    )
    assert {record.status for record in world.state.nodes.values()} == {"joined"}
    assert [change.what for change in world.state.history] == ["apply", "watch"]


def test_quiet_round_writes_and_locks_nothing(world: World) -> None:
    world.apply()
    world.watch(nothing)
    calls, writes, locks = world.cloud.calls.total(), len(world.store.serials), world.store.locked
    world.watch(nothing, nothing, nothing)
    assert (len(world.store.serials), world.store.locked) == (writes, locks)
    assert world.cloud.calls.total() - calls == 4  # one for each round


def test_reports_a_missing_secret_and_launches_when_it_is_there(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WATCH_SECRET", "tiger")
    world.apply(SPEC + '[environment]\nenv = { TOKEN = "env:WATCH_SECRET" }\n')
    launches = world.cloud.calls["launch"]

    def unset() -> None:
        world.end("cpu-1")()
        monkeypatch.delenv("WATCH_SECRET")

    assert world.watch(nothing, unset, nothing, nothing) == 130
    assert "".join(capsys.readouterr()) == snapshot("""\
Watching cluster "demo" (fake), 2 workers, every 30 s. Ctrl-C leaves it running.
1970-01-12 13:46:40 UTC  joined scheduler, cpu-[0-1]
1970-01-12 13:47:40 UTC  lost cpu-1 (VM i-0002 is gone)
1970-01-12 13:47:40 UTC  error: cannot launch nodes: environment variable WATCH_SECRET is not
    set. The nodes get it by `env` under [environment]. Set it where planapply runs; an empty value
    counts as not set.
Watch stopped; the cluster is still running.
""")
    assert world.cloud.calls["launch"] == launches
    monkeypatch.setenv("WATCH_SECRET", "tiger")
    world.watch(nothing)
    assert world.cloud.calls["launch"] == launches + 1
    assert "cpu-1" in {vm.name for vm in world.cloud.live_vms()}
    capsys.readouterr()


def test_gives_up_after_three_vms(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.apply()
    end = world.end("cpu-1")
    assert world.watch(nothing, end, nothing, end, nothing, end, nothing, nothing) == 130
    assert "".join(capsys.readouterr()) == snapshot("""\
Watching cluster "demo" (fake), 2 workers, every 30 s. Ctrl-C leaves it running.
1970-01-12 13:46:40 UTC  joined scheduler, cpu-[0-1]
1970-01-12 13:47:40 UTC  lost cpu-1 (VM i-0002 is gone); launched cpu-1
1970-01-12 13:48:10 UTC  joined cpu-1
1970-01-12 13:48:40 UTC  lost cpu-1 (VM i-0003 is gone); launched cpu-1
1970-01-12 13:49:10 UTC  joined cpu-1
1970-01-12 13:49:40 UTC  lost cpu-1 (VM i-0004 is gone)
1970-01-12 13:49:40 UTC  error: gave up on cpu-1: 3 VMs in a row did not join, or were lost soon
    after. Find the cause with `planapply logs cpu-1`. The next `planapply apply` tries again.
Watch stopped; the cluster is still running.
""")
    assert len(world.cloud.machines) == 3 + 2
    assert len(world.state.attempts["cpu-1"]) == 3
    # Successive changes of one watcher to one group are one entry.
    assert [(c.what, c.times, c.added) for c in world.state.history] == [
        ("apply", 1, 3),
        ("watch", 2, 2),
    ]
    world.apply()  # begins again
    assert (world.state.attempts, "cpu-1" in world.state.nodes) == ({}, True)


def test_replaces_nodes_that_do_not_join(world: World) -> None:
    world.apply()
    world.not_joining = {"cpu-1"}
    first = world.state.nodes["cpu-1"].vm
    world.watch(*[nothing] * 18)
    assert world.state.nodes["cpu-1"].vm == first
    world.is_silent = True  # then no node is judged
    world.watch(*[nothing] * 5)
    assert world.state.nodes["cpu-1"].vm == first
    world.is_silent = False
    world.watch(nothing)
    assert world.state.nodes["cpu-1"].vm != first
    world.watch(*[nothing] * 80)
    assert len(world.cloud.machines) == 3 + 2
    assert "cpu-1" in {vm.name for vm in world.cloud.live_vms()}  # the last one is left as it is


def test_adopted_node_has_time_to_join_or_to_vanish(world: World) -> None:
    """The list of VMs of a cloud may show one that has just ended, and whose node has long left."""
    world.cloud.limits = replace(world.cloud.limits, consistency_delay=45.0)
    world.apply()
    world.watch(nothing)
    world.clock.now += 7200.0
    state = world.state
    vm = state.nodes.pop("cpu-1").vm
    state.serial += 1
    world.store.write(state)
    world.not_joining = {"cpu-1"}
    kept: list[object] = []
    world.watch(nothing, lambda: kept.append(world.state.nodes["cpu-1"].vm), nothing)
    assert kept == [vm]  # after 30 seconds; after 60, it has not joined
    assert world.state.nodes["cpu-1"].vm != vm
    assert world.state.attempts == {"cpu-1": [vm]}


def test_backs_off_without_capacity(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.apply()
    world.watch(nothing)
    capsys.readouterr()

    def no_capacity() -> None:
        world.cloud.capacity["m"] = 0
        world.end("cpu-1")()

    launches, lost = world.cloud.calls["launch"], world.state.nodes["cpu-1"].vm
    world.watch(no_capacity, *[nothing] * 60)
    assert world.cloud.calls["launch"] - launches == 9  # after 30 s, 1, 2, 4, and each 5 minutes
    assert world.watch(world.cloud.capacity.clear, nothing, nothing) == 130
    assert capsys.readouterr() == (
        snapshot("""\
Watching cluster "demo" (fake), 2 workers, every 30 s. Ctrl-C leaves it running.
1970-01-12 13:48:10 UTC  lost cpu-1 (VM i-0002 is gone)
Watching cluster "demo" (fake), 1 worker, every 30 s. Ctrl-C leaves it running.
1970-01-12 14:19:10 UTC  launched cpu-1
1970-01-12 14:19:40 UTC  joined cpu-1
"""),
        snapshot("""\
1970-01-12 13:48:10 UTC  error: cpu-1: 1 VMs too many: m
Watch stopped; the cluster is still running.
1970-01-12 14:18:40 UTC  error: cpu-1: 1 VMs too many: m
1970-01-12 14:19:10 UTC  no longer: cpu-1: 1 VMs too many: m
Watch stopped; the cluster is still running.
"""),
    )
    assert len(world.cloud.machines) == 3 + 1  # only VMs that exist count as attempts
    assert world.state.attempts == {"cpu-1": [lost]}


def test_lock_of_a_running_process_is_no_problem(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.apply()
    world.watch(nothing)
    capsys.readouterr()
    running = LockInfo.of_this_process("ab12", "apply")
    world.store.holder = running.model_copy(update={"who": "me@here", "pid": 7})

    def unlock() -> None:
        world.store.holder = None

    assert world.watch(world.end("cpu-0"), nothing, unlock, nothing) == 130
    assert capsys.readouterr() == (
        snapshot("""\
Watching cluster "demo" (fake), 2 workers, every 30 s. Ctrl-C leaves it running.
1970-01-12 13:48:10 UTC  waiting for the lock of the state state.json, held by me@here (process
    7), for apply
1970-01-12 13:48:40 UTC  waiting for the lock of the state state.json, still held by me@here
    (process 7), for apply
1970-01-12 13:49:10 UTC  lost cpu-0 (VM i-0001 is gone); launched cpu-0
1970-01-12 13:49:40 UTC  joined cpu-0
"""),
        snapshot("Watch stopped; the cluster is still running.\n"),
    )


def test_nodes_are_launched_again_without_the_adaptive_lock(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = SPEC + '[workers.burst]\nmin = 0\nmax = 2\nsize = "m"\nadapt = true\n'
    world.apply(spec)
    world.watch(nothing)
    Path("state.json.adaptive.lock").symlink_to("elsewhere")
    capsys.readouterr()
    assert world.watch(world.end("cpu-0"), nothing) == 130
    shown = capsys.readouterr()
    assert shown.out == snapshot("""\
Watching cluster "demo" (fake), 2 workers, every 30 s. Ctrl-C leaves it running.
1970-01-12 13:48:10 UTC  lost cpu-0 (VM i-0001 is gone); launched cpu-0
1970-01-12 13:48:40 UTC  joined cpu-0
""")
    assert (
        shown.err.count("error: cannot lock the state state.json.adaptive. A symbolic link:") == 1
    )


def test_survives_faults(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.apply()
    world.watch(nothing)
    capsys.readouterr()
    world.clock.pauses.clear()
    holder = LockInfo(id="ab12", who="ann@laptop", pid=7, purpose="apply", host="laptop")

    def unavailable() -> None:
        world.cloud.fail_next("find", *[ErrorKind.UNAUTHORIZED] * 3)

    def lock() -> None:
        world.end("cpu-0")()
        world.store.holder = holder

    def unlock() -> None:
        world.store.holder = None

    script = [unavailable, *[nothing] * 4, lock, nothing, nothing, unlock, nothing]
    assert world.watch(*script) == 130
    assert capsys.readouterr() == (
        snapshot("""\
Watching cluster "demo" (fake), 2 workers, every 30 s. Ctrl-C leaves it running.
1970-01-12 13:53:10 UTC  waiting for the lock of the state state.json, still held by ann@laptop
    (process 7), for apply
1970-01-12 13:53:40 UTC  waiting for the lock of the state state.json, still held by ann@laptop
    (process 7), for apply
1970-01-12 13:54:10 UTC  lost cpu-0 (VM i-0001 is gone); launched cpu-0
1970-01-12 13:54:40 UTC  joined cpu-0
"""),
        snapshot("""\
1970-01-12 13:48:10 UTC  error: find: unauthorized
1970-01-12 13:51:40 UTC  no longer: find: unauthorized
1970-01-12 13:52:40 UTC  error: the state state.json is locked. ann@laptop (process 7) has held
    lock ab12, for apply.
    Each round tries again; or stop that process.
1970-01-12 13:54:10 UTC  no longer: the state state.json is locked
Watch stopped; the cluster is still running.
"""),
    )
    assert world.clock.pauses == [30.0, 30.0, 60.0, 120.0, *[30.0] * 7]


def test_replaces_nodes_under_notice(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.apply(SPEC.replace('"m"', '["m", "n"]') + "spot = true\n")
    vm = world.state.nodes["cpu-1"].vm

    def announce() -> None:
        notice = Notice(node="cpu-1", vm=vm, kind=NoticeKind.INTERRUPTION, time=0.0)
        world.notices["cpu-1"] = notice

    assert world.watch(nothing, announce, world.notices.clear, nothing) == 130
    assert capsys.readouterr().out == snapshot("""\
Watching cluster "demo" (fake), 2 workers, every 30 s. Ctrl-C leaves it running.
1970-01-12 13:46:40 UTC  joined scheduler, cpu-[0-1]
1970-01-12 13:47:40 UTC  expects to lose cpu-1 (the cloud reclaims the spot VM); launched cpu-1
1970-01-12 13:48:10 UTC  joined cpu-1
""")
    assert world.state.nodes["cpu-1"].vm != vm
    assert world.state.nodes["cpu-1"].size == "n"  # first what the cloud has not reclaimed
    assert world.retired == ["cpu-1"]


def test_notice_whose_scheduler_hangs(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """It is asked once in each round, not once for each wave, and the group is not paused."""
    world.apply(SPEC + "spot = true\n")
    vms = {name: world.state.nodes[name].vm for name in ("cpu-0", "cpu-1")}

    def announce() -> None:
        world.not_retired = "timed out after 100 s"
        for name, vm in vms.items():
            world.notices[name] = Notice(node=name, vm=vm, kind=NoticeKind.REBALANCE, time=0.0)

    def end() -> None:
        world.cloud.end_vm(vms["cpu-0"])
        world.not_retired = ""
        world.notices.clear()

    assert world.watch(nothing, announce, end, nothing) == 130
    assert capsys.readouterr() == (
        snapshot("""\
Watching cluster "demo" (fake), 2 workers, every 30 s. Ctrl-C leaves it running.
1970-01-12 13:46:40 UTC  joined scheduler, cpu-[0-1]
1970-01-12 13:47:40 UTC  expects to lose cpu-[0-1] (the cloud reclaims the spot VM)
1970-01-12 13:48:10 UTC  launched cpu-0
1970-01-12 13:48:40 UTC  joined cpu-0
"""),
        snapshot("""\
1970-01-12 13:47:40 UTC  error: cpu-0: cannot retire the workers: timed out after 100 s. These
    VMs keep running, so that no results are lost. The next round tries again.
1970-01-12 13:48:10 UTC  no longer: cpu-0: cannot retire the workers: timed out after 100 s
Watch stopped; the cluster is still running.
"""),
    )
    assert world.retired == ["cpu-0"]
    assert world.state.nodes["cpu-1"].vm == vms["cpu-1"]


def test_ends_with_the_cluster(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.apply()

    def terminate_itself() -> None:
        for record in world.state.nodes.values():
            world.cloud.end_vm(record.vm)
        scheduler = world.state.nodes["scheduler"].vm
        world.cloud.end_reasons[scheduler] = EndReason.IDLE

    assert world.watch(nothing, terminate_itself) == 0
    assert [ended.reason.value for ended in world.state.ended if ended.name == "scheduler"] == [
        "idle"
    ]
    assert world.watch() == 0
    world.apply(mode=Mode.DESTROY)
    assert world.watch() == 0
    assert capsys.readouterr() == (
        snapshot("""\
Watching cluster "demo" (fake), 2 workers, every 30 s. Ctrl-C leaves it running.
1970-01-12 13:46:40 UTC  joined scheduler, cpu-[0-1]
1970-01-12 13:47:40 UTC  the cluster has terminated itself (idle_timeout)
Watching cluster "demo" (fake), 2 workers, every 30 s. Ctrl-C leaves it running.
1970-01-12 13:47:40 UTC  the cluster has terminated itself (idle_timeout)
Watching cluster "demo" (fake), 0 workers, every 30 s. Ctrl-C leaves it running.
1970-01-12 13:47:40 UTC  the cluster was destroyed
"""),
        snapshot(""),
    )


def test_removes_vms_that_powered_off(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.apply()

    def power_off() -> None:
        for record in world.state.nodes.values():
            world.cloud.stop_vm(record.vm)

    assert world.watch(nothing, power_off) == 0
    assert world.cloud.live_vms() == []
    assert capsys.readouterr().out == snapshot("""\
Watching cluster "demo" (fake), 2 workers, every 30 s. Ctrl-C leaves it running.
1970-01-12 13:46:40 UTC  joined scheduler, cpu-[0-1]
1970-01-12 13:47:40 UTC  the cluster has terminated itself; lost scheduler, cpu-[0-1] (VMs are
    stopped); removed scheduler, cpu-[0-1]
""")


def test_launches_no_scheduler(world: World, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    world.apply()
    scheduler = world.state.nodes["scheduler"].vm
    world.cloud.end_reasons[scheduler] = EndReason.RECLAIMED
    with pytest.raises(SchedulerLost) as caught:
        world.watch(nothing, world.end("scheduler"))
    assert str(caught.value) == snapshot("""\
lost the scheduler of cluster 'demo': its VM i-0000 no longer exists (reclaimed by the cloud)
`planapply watch` does not launch a scheduler. Run `planapply apply`, which replaces all nodes, or `planapply destroy`.\
""")
    # Its workers may be about to end, if it has not been reclaimed: then wait for them.
    del world.cloud.end_reasons[scheduler]
    with pytest.raises(SchedulerLost):
        world.watch(*[nothing] * 100)
    assert sum(world.clock.pauses[-30:]) >= 300.0


def test_limits_of_cost_and_ttl(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    limited = SPEC.replace('"fake"\n', '"fake"\nttl = "2 h"\nmax_total_cost = 6.0\n')
    world.apply(limited)
    world.watch(nothing)
    capsys.readouterr()

    def wait(seconds: float) -> Action:
        def later() -> None:
            world.clock.now += seconds
            world.end("cpu-1")()

        return later

    # 3 VMs cost 3 USD/h.
    assert world.watch(wait(3600.0 + 600.0), nothing, wait(2400.0), nothing) == 130
    assert capsys.readouterr() == (
        snapshot(
            """\
Watching cluster "demo" (fake), 2 workers, every 30 s. Ctrl-C leaves it running.
1970-01-12 14:58:10 UTC  lost cpu-1 (VM i-0002 is gone)
"""
        ),
        snapshot("""\
1970-01-12 14:58:10 UTC  error: the cluster has cost at most 3.58 USD so far, and with 3.00
    USD/h would exceed `max_total_cost` (6.00 USD) within an hour. Make the cluster cheaper than it
    is (2.00 USD/h), destroy it, or raise `max_total_cost` under [cluster].
1970-01-12 15:39:10 UTC  no longer: the cluster has cost at most 3.60 USD so far, and with 3.00
    USD/h would exceed `max_total_cost` (6.00 USD) within an hour
1970-01-12 15:39:10 UTC  warning: the cluster has cost at most 5.62 USD so far, 94 % of
    `max_total_cost` (6.00 USD). When it would exceed that within an hour, nothing is launched any
    more. Raise `max_total_cost` under [cluster] and apply, or run `planapply destroy`.
1970-01-12 15:39:10 UTC  warning: nothing is launched any more: the scheduler's `ttl` ends
    within `join_timeout`
Watch stopped; the cluster is still running.
"""),
    )
    assert "cpu-1" in world.state.nodes
    assert "cpu-1" not in {vm.name for vm in world.cloud.live_vms()}


def test_events_for_programs(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.apply()
    world.watch(nothing)
    world.end("cpu-1")()
    world.cloud.fail_next("find", ErrorKind.UNAUTHORIZED)
    capsys.readouterr()
    assert world.watch(nothing, nothing, json=True) == 130
    found = events(capsys.readouterr().out)
    assert [
        event for event in found if event["event"] in ("note", "round", "finished")
    ] == snapshot(
        [
            {"event": "note", "message": 'watching cluster "demo" (fake), 2 workers, every 30 s'},
            {
                "event": "round",
                "data": {
                    "outcome": "failed",
                    "diagnostics": [
                        {
                            "severity": "error",
                            "summary": "find: unauthorized",
                            "detail": "",
                            "source": None,
                            "code": "cloud_unauthorized",
                        }
                    ],
                    "seconds": 0.0,
                },
            },
            {
                "event": "round",
                "data": {
                    "outcome": "changed",
                    "lost": [
                        {
                            "name": "cpu-1",
                            "vm": "i-0002",
                            "reason_code": "vm_gone",
                            "reason": "VM i-0002 is gone",
                        }
                    ],
                    "launched": ["cpu-1"],
                    "seconds": 0.1,
                },
            },
            {"event": "round", "data": {"outcome": "changed", "joined": ["cpu-1"], "seconds": 0.0}},
            {
                "event": "finished",
                "data": {"outcome": "stopped", "added": 1, "changed": 0, "destroyed": 0},
            },
        ]
    )


def test_once(run: Run, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    async def joined(fleet: Any, names: Any, timeout: float) -> dict[str, Any]:
        def record(state: State) -> None:
            for name in names:
                state.nodes[name].status = "joined"

        fleet.journal.update(record)
        return {}

    monkeypatch.setattr("planapply.dask.execute.wait_for_joins", joined)
    assert run("apply", "--auto-approve").code == 0
    assert run("watch", "--once") == (0, "Nothing to do.\n", "")
    state = open_store("planapply.state.json").read()
    assert state is not None
    cloud.end_vm(state.nodes["cpu-1"].vm)
    cloud.fail_next("find", ErrorKind.UNAUTHORIZED)
    failed = run("watch", "--once")
    assert (failed.code, failed.out, failed.err) == (1, "", snapshot("Error: find: unauthorized\n"))
    healed = run("watch", "--once")
    assert (healed.code, healed.out[25:], healed.err) == (
        0,
        snapshot("lost cpu-1 (VM i-0002 is gone); launched cpu-1\n"),
        "",
    )
    assert run("watch", "--once").out == "Nothing to do.\n"
    assert run("plan").out.startswith("No changes.")


def test_refuses_wrong_options(run: Run, cloud: FakeCloud) -> None:
    result = run("watch", "--interval", "0")
    assert (result.code, result.out, result.err) == (
        1,
        "",
        snapshot("""\
Error: invalid value for '--interval': it must be between 1 s and 1 d, not 0
  Run `planapply watch --help`.
"""),
    )
    result = run("watch", "--once")
    assert (result.code, result.out, result.err) == (
        1,
        "",
        snapshot("""\
Error: there is no state at planapply.state.json
  Run `planapply apply` first; or, if the state is elsewhere, pass --state. `planapply list` shows
  clusters whose state is elsewhere or lost.
"""),
    )


def join_all() -> None:
    store = open_store("planapply.state.json")
    state = store.read()
    assert state is not None
    for record in state.nodes.values():
        record.status = "joined"
    store.write(state)


def test_signal_between_rounds(run: Run, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    run("apply", "--auto-approve", "--no-wait")
    join_all()
    monkeypatch.setattr(SystemClock, "sleep", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert run("watch") == (
        143,
        snapshot(
            'Watching cluster "demo" (fake), 3 workers, every 30 s. Ctrl-C leaves it running.\n'
        ),
        snapshot("Watch stopped; the cluster is still running.\n"),
    )
    assert len(cloud.live_vms()) == 4


def test_signal_in_a_round_records_what_was_launched(
    run: Run, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("apply", "--auto-approve", "--no-wait")
    join_all()
    state = open_store("planapply.state.json").read()
    assert state is not None
    cloud.end_vm(state.nodes["cpu-1"].vm)
    launch = cloud.launch

    def interrupted(request: LaunchRequest) -> LaunchResult:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1.0)  # this is a thread: the main one handles the signal
        return launch(request)

    monkeypatch.setattr(cloud, "launch", interrupted)
    result = run("watch", "--json")
    assert result.code == 130
    assert events(result.out)[-1] == snapshot(
        {
            "event": "finished",
            "data": {"outcome": "stopped", "added": 1, "changed": 0, "destroyed": 0},
        }
    )
    state = open_store("planapply.state.json").read()
    assert state is not None
    recorded = {record.vm for record in state.nodes.values()}
    assert {vm.id for vm in cloud.live_vms()} == recorded  # the answer was recorded
    assert state.history[-1].outcome in ("stopped", "done")
    assert not state.intents
