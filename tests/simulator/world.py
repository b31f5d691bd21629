"""A cluster on which several processes work at once, and the checks of all that they do."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from math import inf
from typing import Any
from unittest.mock import patch

from fake_provider import FakeCloud, FakeProvider, Machine
from simulator.attempts import SHORT_LIFE, Attempts, end_of
from simulator.scenario import BOOT_TIME, LAG, Statistics, Violation
from simulator.simulated import Crash, CrashingProvider, SimWorkspace
from simulator.stage import Actor, Disk, DiskBackend, Process, ProcessClock, Stage

from planapply.dask import execute, observe
from planapply.dask import scheduler as scheduler_client
from planapply.dask.scheduler import SchedulerInfo
from planapply.dask.wait_for_join import NotJoined
from planapply.fleet import Fleet, Stopped
from planapply.model.diagnostics import PlanapplyError
from planapply.model.end_reason import EndReason
from planapply.model.names import SCHEDULER, split_name
from planapply.model.node import VM
from planapply.model.notice import Notice, NoticeKind
from planapply.model.plan import Mode
from planapply.model.spec import Spec
from planapply.model.state import State
from planapply.ops.apply import ApplyOptions, apply
from planapply.ops.plan import PlanOptions
from planapply.ops.recorded_spec import recorded_spec
from planapply.ops.watch import Watch
from planapply.provider import LaunchRequest, LaunchResult, Limits
from planapply.store import StateStore, codec, state_store

JOIN_TIMEOUT = 300.0
LONG_LIFE = JOIN_TIMEOUT + SHORT_LIFE + LAG
"""Seconds after which a VM that has joined was no failed attempt, whether this was recorded or not."""


@dataclass
class Options:
    """How cruel a story is."""

    joins: float = 0.85
    """Probability that a VM joins."""
    silence: float = 0.05
    """Probability that the scheduler does not answer."""
    deaths: float = 60.0
    """Mean time between two deaths of VMs."""
    slowness: float = 0.0
    """Probability that a process stands still at a point."""


class WatchedProvider(CrashingProvider):
    """The provider of one process, whose launches and terminations are checked."""

    def __init__(self, world: "World", process: Process, workspace: SimWorkspace) -> None:
        super().__init__(world.cloud, process)
        self.world, self.process, self.workspace = world, process, workspace

    def launch(self, request: LaunchRequest) -> LaunchResult:
        def effect() -> LaunchResult:
            before = len(self.cloud.machines)
            try:
                return FakeProvider.launch(self, request)
            finally:
                new = [*self.cloud.machines.values()][before:]
                self.world.on_launch(self.process, self.workspace.spec, request, new)

        return self.process.run_effect(effect)

    def terminate(self, ids: Any) -> Any:
        self.world.check_termination(self.process, ids)
        return super().terminate(ids)

    def end_reasons(self, ids: Any) -> Any:
        return self.process.run_effect(lambda: FakeProvider.end_reasons(self, ids))


class World:
    """A cluster in a faulty cloud, all processes that work on it, and what must always be true."""

    def __init__(self, seed: int, statistics: Statistics) -> None:
        self.stage, self.statistics = Stage(seed), statistics
        self.random = self.stage.random
        self.disk = Disk(on_write=self.on_write, on_conflict=self.on_conflict)
        self.cloud = FakeCloud(self.stage, seed, limits=Limits(parallel=0, batch=3))
        self.options = Options()
        self.is_calm = False
        self.joins_at: dict[str, float] = {}
        """VM -> when its node joins."""
        self.noticed: set[str] = set()
        """Spot VMs that the cloud takes back soon."""
        self.ttl_ends: dict[str, float] = {}
        """VM -> when it reaches its ttl."""
        self.never_join: frozenset[str] = frozenset()
        """Nodes whose VMs do not join."""
        self.attempts = Attempts(self.cloud)
        self.serial = 0
        self.trace: Callable[[str], None] = lambda text: None
        """Gets what happens, to replay a story."""
        self.is_excused = False
        """Whether another process has unlocked the state of a living process, so that two worked at once."""

    # Processes

    def start(self, actor: Actor, kind: str, spec: Spec | None, **options: Any) -> SimWorkspace:
        """Start a process: it knows only what is on the disk."""
        process = Process(actor, kind, delay=self.delay, **options)
        workspace = SimWorkspace(
            StateStore(DiskBackend(self.disk, process)),
            spec=spec,
            clock=ProcessClock(process, self.random.getrandbits(64)),  # type: ignore[arg-type]
        )
        workspace.provider = WatchedProvider(self, process, workspace)
        return workspace

    def delay(self) -> float:
        """Return how long a process takes from one point to the next."""
        if self.random.random() < self.options.slowness:
            return self.random.choice([5.0, 60.0, 400.0])
        return self.random.choice([0.0, 0.0, 0.1, 1.0])

    def run_process(self, actor: Actor, run: Callable[[], object]) -> bool:
        """Run a process until it exits or dies; return whether it did what it was asked to."""
        try:
            result = run()
        except Crash:
            if self.stage.violation is not None:
                raise
            self.statistics["processes killed"] += 1
            self.trace("  killed")
            return False
        except (PlanapplyError, Stopped) as error:
            self.trace(f"  ended: {error!r}")
            return False
        finally:
            assert actor.process is not None
            actor.process.kill()  # it is gone, also for the lock
        self.check_no_vm_lost()
        return result is not False

    def apply(
        self,
        actor: Actor,
        spec: Spec | None,
        options: PlanOptions = PlanOptions(),
        wait: bool | None = None,
        **process: Any,
    ) -> bool:
        """Run an apply, a destroy, or a scale, which waits for its nodes by chance if `wait` is None."""
        kind = "scale" if options.mode is Mode.SCALE else "apply"
        self.trace(f"{options.mode} {spec and spec.model_dump(exclude_unset=True)} {process}")
        workspace = self.start(actor, kind, spec, **process)
        wait = self.random.random() < 0.7 if wait is None else wait
        how = ApplyOptions(parallel=0, wait=wait)

        def run() -> bool:
            report = apply(workspace, lambda plan: True, options, how)
            self.trace(f"  {report.failures}")
            return not report.failures

        return self.run_process(actor, run)

    def watch(self, actor: Actor, interval: float = 30.0, **process: Any) -> bool:
        """Run a watcher until it stops, dies, or gets a signal."""
        workspace = self.start(actor, "watch", None, **process)
        view = CountingView(self)
        self.trace(f"watch {process}")
        watch = Watch(workspace, view, nullcontext, interval)  # type: ignore[arg-type]
        return self.run_process(actor, watch.run)

    def run(self, *bodies: Callable[[Actor], None]) -> None:
        """Run these actors at the same time until each has ended; raise Violation."""
        for body in bodies:
            Actor(self.stage, body)
        with self._simulated_scheduler():
            self.stage.run()
        if self.stage.violation is not None:
            raise Violation(self.stage.violation)

    # The scheduler

    @contextmanager
    def _simulated_scheduler(self) -> Iterator[None]:
        info = SchedulerInfo("sim", frozenset(), None)
        random.seed(self.random.getrandbits(32))  # for the waits for a lock
        with (
            patch.object(execute, "wait_for_joins", self.wait_for_joins),
            patch.object(execute, "retire_workers", self.retire_workers),
            patch.object(observe, "observe_scheduler", self.observe),
            patch.object(scheduler_client, "probe", lambda *_: info),
            patch.object(scheduler_client, "cluster_usage", lambda *_: None),
            patch.object(state_store, "save_copy", lambda *_: None),
        ):
            yield

    def joined(self) -> frozenset[str]:
        now = self.stage.now
        return frozenset(str(vm.name) for vm in self.own_vms() if self.joins_at[vm.id] <= now)

    def observe(self, *_: Any, workers: bool) -> observe.SchedulerReport | None:
        """Answer as the scheduler, if it runs."""
        assert self.stage.current
        assert self.stage.current.process
        self.stage.current.process.reach()
        joined = self.joined()
        is_silent = not self.is_calm and self.random.random() < self.options.silence
        if SCHEDULER not in joined or is_silent:
            return None
        notices = {
            str(vm.name): Notice(
                node=str(vm.name), vm=vm.id, kind=NoticeKind.INTERRUPTION, time=self.stage.now
            )
            for vm in self.own_vms()
            if vm.id in self.noticed
        }
        return observe.SchedulerReport(
            SchedulerInfo("sim", joined, None) if workers else None, notices
        )

    async def wait_for_joins(
        self, fleet: Fleet, names: dict[str, int], timeout: float
    ) -> dict[str, PlanapplyError]:
        """Take the place of the function of the same name."""
        waiting, deadline = set(names), self.stage.now + timeout
        while waiting and self.stage.now < deadline:
            fleet.clock.sleep(BOOT_TIME)
            joined = self.joined()
            found = sorted(name for name in waiting if name in joined and SCHEDULER in joined)
            now = fleet.clock.time()

            def record(state: State, found: list[str] = found, now: float = now) -> None:
                for name in found:
                    state.nodes[name].status, state.nodes[name].joined_at = "joined", now

            if found:
                fleet.journal.update(record)
            waiting.difference_update(found)
            alive = {vm.name for vm in self.own_vms()}
            if SCHEDULER not in alive or not waiting & alive:
                break
        return {name: NotJoined(f"{name} did not join") for name in waiting}

    async def retire_workers(
        self, endpoint: Any, tls: Any, names: list[str], *, is_healing: bool
    ) -> tuple[frozenset[str], str]:
        """Take the place of the function of the same name."""
        is_refused = not self.is_calm and self.random.random() < self.options.silence
        return (frozenset(names), "busy") if is_refused else (frozenset(), "")

    # What must always be true

    def own_vms(self) -> list[VM]:
        """Return the VMs that planapply launched, that exist, and that are not terminating."""
        return [vm for vm in self.cloud.live_vms() if vm.status != "stopping"]

    def state(self) -> State | None:
        return None if self.disk.data is None else codec.decode(self.disk.data, "sim")

    def on_write(self, process: Process, data: bytes) -> None:
        state = codec.decode(data, "sim")
        if state.serial <= self.serial:
            self.stage.fail(f"serial {state.serial} was written after {self.serial}")
        self.serial = state.serial
        self.statistics["writes"] += 1
        shown = {name: f"{record.vm} {record.status}" for name, record in state.nodes.items()}
        self.trace(f"  {process.kind} writes {shown} {[*state.intents]} {state.attempts}")
        self.attempts.on_write(process.kind, state, is_first=not process.has_written)
        process.has_written = True
        if process.kind == "watch":
            self._check_attempts(state)
        self.check_no_vm_lost()

    def on_conflict(self, process: Process) -> None:
        """Check that a watcher works from what it has read under the lock."""
        if process.kind == "watch" and not self.is_excused:
            self.stage.fail("watch would replace a state that it has not read")

    def _check_attempts(self, state: State) -> None:
        """Check that no VM that lived long counts as a failed attempt."""
        for name, vms in state.attempts.items():
            for id in vms:
                machine = self.cloud.machines[id]
                life = min(end_of(machine), self.stage.now) - machine.launched_at
                if self.joins_at[id] < inf and life > LONG_LIFE:
                    self.stage.fail(f"{id} is a failed attempt of {name}, after {life:.0f} s")

    def check_no_vm_lost(self) -> None:
        """Check that each VM is in the state, or in an intent that the next process resolves."""
        state, alive = self.state(), self.own_vms()
        recorded = {record.vm for record in state.nodes.values()} if state else set()
        intents = state.intents if state else {}
        lost = [vm.id for vm in alive if vm.id not in recorded and vm.batch not in intents]
        if lost and not self.is_excused:
            self.stage.fail(f"{lost} are in no state")

    def on_launch(
        self, process: Process, spec: Spec | None, request: LaunchRequest, new: list[Machine]
    ) -> None:
        """Check VMs that a process has launched, and decide about their lives."""
        is_watch = process.kind == "watch"
        self.statistics["launches by watchers" if is_watch else "launches by people"] += len(new)
        for machine in new:
            vm = machine.vm
            does_join = self.is_calm or self.random.random() < self.options.joins
            does_join = does_join and vm.name not in self.never_join
            boots = self.stage.now + self.random.uniform(5.0, 90.0)
            # Otherwise, stories would be about nothing but a scheduler that has not joined.
            self.joins_at[vm.id] = boots if does_join or vm.name == SCHEDULER else inf
            ttl = request.config.ttl
            if ttl is not None:
                machine.stopping_at = machine.ended_at = self.stage.now + ttl
                self.cloud.end_reasons[vm.id] = EndReason.TTL
                self.ttl_ends[vm.id] = machine.ended_at
            if self.is_calm or not self.is_excused:
                self._check_launch(process, spec, vm)
        self.check_no_vm_lost()  # each is in an intent, although its launch has just returned

    def _check_launch(self, process: Process, spec: Spec | None, vm: VM) -> None:
        fail, name, alive = self.stage.fail, str(vm.name), self.own_vms()
        if self.disk.holder is None or self.disk.holder.process is not process:
            fail(f"{process.kind} launches {name} without the lock")
        twins = [other.id for other in alive if other.name == name]
        if len(twins) > 1:
            fail(f"{process.kind} launches {name}, which exists: {twins}")
        group, index = split_name(name)
        settings = spec.workers.get(group) if spec else None
        if name == SCHEDULER:
            if process.kind != "apply":
                fail(f"{process.kind} launches a scheduler")
            return
        if settings is None or (settings.count is not None and index >= settings.count):
            fail(f"{process.kind} launches {name}, which is not in the spec")
            return
        size = sum(1 for other in alive if split_name(str(other.name))[0] == group)
        if settings.max is not None and size > settings.max:
            fail(f"{process.kind} launches {name}: {size} nodes of {settings.max}")
        if process.kind != "watch":
            return
        state = self.state()
        if spec != (recorded_spec(state) if state else None):
            fail(f"watch launches {name} by an outdated spec")
        looked_at = self.disk.holder.taken_at
        why = self.attempts.violation(name, settings, looked_at, self.stage.now)
        if why:
            fail(f"watch launches {name} after {why}")
        scheduler = [vm for vm in alive if vm.name == SCHEDULER]
        ends = [self.ttl_ends.get(vm.id, inf) for vm in scheduler]
        if ends and max(ends) - looked_at <= spec.cluster.join_timeout:
            fail(f"watch launches {name} although the scheduler's ttl ends")

    def check_termination(self, process: Process, ids: list[str]) -> None:
        """Check that no watcher terminates a scheduler that runs."""
        running = {vm.id for vm in self.own_vms() if vm.name == SCHEDULER and vm.is_active}
        if process.kind == "watch" and running.intersection(ids) and not self.is_excused:
            self.stage.fail("watch terminates a scheduler")


class CountingView:
    """A view that counts rounds."""

    def __init__(self, world: World) -> None:
        self._world = world

    def show_round(self, result: Any, seconds: float) -> None:
        self._world.statistics["rounds"] += 1
        self._world.statistics["rounds with changes"] += result.has_changed
        if result.has_changed or result.is_incomplete:
            self._world.trace(f"  {result}")

    def show_failed_round(self, error: Any, seconds: float) -> None:
        self._world.statistics["failed rounds"] += 1
        self._world.trace(f"  failed: {error}")

    def on_event(self, event: Any) -> None:
        self._world.trace(f"  {event.event} {event.names} {event.message}")

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None
