"""One story: the life of a cluster on a faulty cloud, with processes that die at any point."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

from fake_provider import FakeCloud, Faults
from simulator.simulated import (
    CloudTime,
    Crash,
    CrashingProvider,
    CrashPoints,
    SimClock,
    SimStore,
    SimWorkspace,
)

from planapply.dask import execute
from planapply.dask import scheduler as scheduler_client
from planapply.dask.scheduler import SchedulerInfo
from planapply.dask.wait_for_join import NotJoined
from planapply.fleet import Fleet
from planapply.model.diagnostics import PlanapplyError
from planapply.model.names import node_name
from planapply.model.node import VM
from planapply.model.plan import Mode, Plan
from planapply.model.spec import Spec
from planapply.model.state import Choice, Resource, State
from planapply.ops.apply import ApplyOptions, apply
from planapply.ops.plan import PlanOptions, plan
from planapply.provider import Limits
from planapply.render.reasons import reason_text

# The scheduler's address refuses connections at once: waiting for it makes no sense.
scheduler_client.CONNECT_TIMEOUT = scheduler_client.BUSY_TIMEOUT = 0.01
LAG, CONSISTENCY_DELAY = 20.0, 30.0
APPLY_OPTIONS = ApplyOptions(parallel=0, retire=False)
BOOT_TIME = 25.0
"""Seconds from the launch of a VM until its node joins the scheduler, which only the simulation knows."""


class Violation(AssertionError):
    """A promise that was not kept, with the moment."""


Statistics = Counter[str]
"""The figures of a run of stories, for the log."""


class Scenario:
    """A story that depends only on a seed, so that it can be replayed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.clock = SimClock(seed)
        self.crash_points = CrashPoints()
        self.store = SimStore(self.crash_points)
        probability = self.random.choice([0.0, 0.1, 0.3, 0.8])
        pick = self.random.choice
        self.cloud = FakeCloud(
            CloudTime(self.clock),
            seed,
            faults=Faults(
                throttled=pick([0.0, probability]),
                lost_before=pick([0.0, probability]),
                lost_after=pick([0.0, probability]),
                partial=pick([0.0, probability]),
                reclaimed=pick([0.0, 0.02]),
                lag=pick([0.0, LAG]),
                termination_delay=pick([0.0, 40.0]),
            ),
            limits=Limits(
                batch=pick([1, 3, 10]),
                consistency_delay=CONSISTENCY_DELAY,
                tokens=pick([True, True, False]),
            ),
            choices=[Choice(zone="a"), Choice(zone="b")],
            required_resources=pick([{}, {"group": Resource(kind="security group")}]),
        )
        self.crashes = 0
        self.last_error: object = None

    @contextmanager
    def simulated_scheduler(self) -> Iterator[None]:
        """Let the nodes whose VMs exist join, although there is no scheduler; unless there are faults."""
        info = SchedulerInfo("sim", frozenset(), None)
        with (
            patch.object(execute, "wait_for_joins", self.wait_for_joins),
            patch.object(scheduler_client, "probe", lambda *_: info),
        ):
            yield

    async def wait_for_joins(
        self, fleet: Fleet, names: Mapping[str, int], timeout: float
    ) -> dict[str, PlanapplyError]:
        """Take the place of the function of the same name."""
        self.clock.sleep(BOOT_TIME)
        alive = {vm.id for vm in self.own_vms()}
        records = fleet.journal.read(lambda state: dict(state.nodes))
        is_calm = self.cloud.faults == Faults()
        joined = [
            name
            for name in names
            if records[name].vm in alive and (is_calm or self.random.random() < 0.9)
        ]

        def record(state: State) -> None:
            for name in joined:
                state.nodes[name].status = "joined"

        if joined:
            fleet.journal.update(record)
        failed = names.keys() - joined
        return {name: NotJoined(f"{name} did not join") for name in failed}

    def spec(self) -> Spec:
        """Choose the next spec of the cluster."""
        pick = self.random.choice
        document = {
            "cluster": {"name": "sim", "provider": "fake", "tags": pick([{}, {"team": "bio"}])},
            "defaults": {"size": pick(["m", ["m", "n"], ["n"]])},
            # Often only the workers change, so that there are waves.
            "scheduler": {
                "size": pick(["m", "m", "m", "n"]),
                "options": {"port": pick([8786, 8786, 8786, 9000])},
            },
            "workers": {
                "cpu": {
                    "count": pick([0, 1, 4, 7]),
                    "options": {"nthreads": pick([1, 2])},
                    "max_unavailable": pick(["100%", "25%", 3]),
                },
                "elastic": {"min": pick([0, 2]), "max": 4},
            },
        }
        return Spec.model_validate(document)

    def new_process(self, spec: Spec) -> SimWorkspace:
        """Start a new process, which knows only what is on the disk."""
        workspace = SimWorkspace(self.store, spec=spec, clock=self.clock)  # type: ignore[arg-type]
        workspace.provider = CrashingProvider(self.cloud, self.crash_points)
        return workspace

    def run_process(self, spec: Spec, options: PlanOptions, die_at: int | None) -> bool:
        """Apply in one process, which dies at its `die_at`th point; return whether it finished."""
        self.crash_points.points_left, self.crash_points.is_dead = die_at, False
        usual_faults = self.cloud.faults
        if self.random.random() < 0.1:
            self.spoof_vm()
        if self.random.random() < 0.1:
            self.clock.clock_skew = self.random.uniform(-90_000.0, 90_000.0)
        if usual_faults != Faults() and self.random.random() < 0.2:
            self.cloud.faults = replace(
                usual_faults, lost_after=0.9
            )  # an outage, longer than the time limit for retries
        try:
            with self.simulated_scheduler():
                report = apply(self.new_process(spec), lambda made: True, options, APPLY_OPTIONS)
            done = not report.failures
            self.last_error = report.failures
        except Crash:
            self.crashes += 1
            done = False
        except PlanapplyError as error:
            self.last_error = error
            done = False  # the cloud refused; that was reported, and the next run continues
        finally:
            self.crash_points.points_left, self.crash_points.is_dead = None, False
            self.cloud.faults = usual_faults
        self.check_no_vm_lost()
        return done

    def spoof_vm(self) -> None:
        """Tag a VM of another user like one of a request that the state knows."""
        state = self.store.read()
        batches = sorted(state.batches) if state else []
        if state is None or not batches:
            return
        self.cloud.spoof(
            planapply_cluster=state.cluster,
            planapply_lineage=state.lineage,
            planapply_batch=self.random.choice(batches),
            planapply_names=self.random.choice(["scheduler", "cpu-0", "cpu-99"]),
        )

    def own_vms(self) -> list[VM]:
        """Return the VMs that planapply launched and that are not terminating."""
        return [
            vm
            for vm in self.cloud.live_vms()
            if vm.status != "stopping" and vm.id not in self.cloud.spoofed
        ]

    def check_no_vm_lost(self) -> None:
        """Check that every VM is in the state, in an intent, or terminating; and none is a duplicate."""
        state = self.store.read()
        alive = self.own_vms()
        if state is None:
            if alive:
                raise Violation(f"no state, and {[vm.id for vm in alive]} exist")
            return
        recorded = {record.vm for record in state.nodes.values()}
        if recorded & self.cloud.spoofed:
            raise Violation(f"a VM of another user was adopted: {recorded & self.cloud.spoofed}")
        lost = [vm.id for vm in alive if vm.id not in recorded and vm.batch not in state.intents]
        # A cloud without tokens may create a duplicate; it is found by its tags, if it is visible.
        if lost and not self.found_by_tags(state.lineage, lost):
            raise Violation(f"{lost} are in no state and have no tags")
        if lost and self.cloud.limits.tokens:
            raise Violation(f"{lost} are in no state")
        if self.store.serials != sorted(set(self.store.serials)):
            raise Violation(f"serials went back: {self.store.serials}")

    def found_by_tags(self, lineage: str, ids: list[str]) -> bool:
        return all(self.cloud.machines[i].vm.tags.get("planapply:lineage") == lineage for i in ids)

    def apply_without_faults(self, spec: Spec, options: PlanOptions) -> None:
        """Check that everything is correct when the cloud works again."""
        self.cloud.faults = Faults()
        self.clock.sleep(CONSISTENCY_DELAY + LAG + 60.0)
        for _ in range(3):
            if self.run_process(spec, options, None):
                break
        else:
            raise Violation(f"an apply on a cloud without faults fails: {self.last_error}")
        remaining = plan(self.new_process(spec), options).plan
        if remaining.changes:
            raise Violation(f"something is left to do: {_names(remaining)}")
        self.check_matches_spec(spec, options)

    def check_matches_spec(self, spec: Spec, options: PlanOptions) -> None:
        names = Counter(vm.name for vm in self.own_vms())
        duplicates = [name for name, number in names.items() if number > 1]
        if duplicates:
            raise Violation(f"there twice: {duplicates}")
        if options.mode is Mode.DESTROY:
            if names or self.cloud.resources:
                raise Violation(f"left behind: {names} {self.cloud.resources}")
            return
        cpus = {node_name("cpu", i) for i in range(spec.workers["cpu"].count or 0)}
        elastic = {str(name) for name in names if str(name).startswith("elastic-")}
        if names.keys() != {"scheduler", *cpus, *elastic}:
            raise Violation(f"not as specified: {sorted(map(str, names))}")
        low, high = spec.workers["elastic"].min or 0, spec.workers["elastic"].max or 0
        if not low <= len(elastic) <= high:
            raise Violation(f"an elastic group out of its bounds: {sorted(elastic)}")
        state = self.store.read()
        [scheduler] = [vm for vm in self.own_vms() if vm.name == "scheduler" and vm.is_active]
        endpoint = state.endpoint.private if state and state.endpoint else None
        if f"//{scheduler.private_address}:" not in str(endpoint):
            raise Violation(f"the scheduler is at {scheduler.private_address}, and not {endpoint}")

    def steps(self) -> list[tuple[Spec, PlanOptions]]:
        """Change the spec a few times, and apply the last one completely."""
        destroy = PlanOptions(mode=Mode.DESTROY)
        return [
            (self.spec(), destroy if self.random.random() < 0.25 else PlanOptions())
            for _ in range(self.random.randint(1, 3))
        ]


def _names(made: Plan) -> list[str]:
    return [
        f"{change.action.symbol} {change.name} ({reason_text([change])})" for change in made.changes
    ]


def run_scenario(seed: int, die_at: int | None, statistics: Statistics) -> int:
    """Run one story; the process of every step dies, at point `die_at` or at random points.

    Returns the number of points at which the first process could have died.
    """
    scenario = Scenario(seed)
    steps = scenario.steps()
    points = 0
    for spec, options in steps:
        if die_at is None:
            for _ in range(scenario.random.randint(0, 4)):
                scenario.run_process(spec, options, scenario.random.choice([None, *range(30)]))
        else:
            scenario.run_process(spec, options, die_at)
            points = points or scenario.crash_points.points
    scenario.apply_without_faults(*steps[-1])
    statistics.update(
        {
            "stories": 1,
            "processes killed": scenario.crashes,
            "points where one can die": scenario.crash_points.points,
            "provider calls": scenario.cloud.calls.total(),
            "faults injected": scenario.cloud.injected.total(),
        }
    )
    return points


def run_waves(die_at: int, *, goes_back: bool) -> int:
    """Replace four nodes one by one; the process dies at a point, and the next one continues or goes back.

    Returns the number of points at which the process could have died.
    """
    scenario = Scenario(0)
    scenario.cloud.faults, scenario.cloud.required_resources = Faults(), {}
    old, new = (
        Spec.model_validate(
            {
                "cluster": {"name": "sim", "provider": "fake"},
                "workers": {
                    "cpu": {"count": 4, "max_unavailable": 1, "options": {"nthreads": threads}},
                    "elastic": {"min": 0, "max": 4},
                },
            }
        )
        for threads in (1, 2)
    )
    scenario.run_process(old, PlanOptions(), None)
    before = scenario.crash_points.points
    scenario.run_process(new, PlanOptions(), die_at)
    points = scenario.crash_points.points - before
    missing = {f"cpu-{i}" for i in range(4)} - {vm.name for vm in scenario.own_vms()}
    if len(missing) > 1:
        raise Violation(f"more than one node is unavailable: {missing}")
    scenario.apply_without_faults(old if goes_back else new, PlanOptions())
    return points


if __name__ == "__main__":  # python -m simulator.scenario SEED [POINT], in tests/
    import sys

    statistics = Statistics()
    run_scenario(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None, statistics)
    print(dict(statistics))
