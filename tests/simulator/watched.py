"""Random stories with watchers: several at once, and people and clouds that do not wait for them."""

from collections import Counter
from dataclasses import replace
from typing import Any

from fake_provider import Faults
from simulator.calm import check_watched, run_calm_watch
from simulator.scenario import CONSISTENCY_DELAY, LAG, Statistics, Violation
from simulator.stage import Actor
from simulator.world import JOIN_TIMEOUT, Options, World

from planapply.model.names import SCHEDULER, node_name, split_name
from planapply.model.plan import Mode
from planapply.model.spec import Spec
from planapply.model.state import Choice, Resource
from planapply.ops.plan import PlanOptions, plan
from planapply.provider import Limits

STORY, CALM = 1500.0, 3000.0
"""Seconds with faults, and without; a node may need all attempts in the latter."""


class Story:
    """A random story: its actors, and what the cluster must be when they have left."""

    def __init__(self, seed: int, statistics: Statistics) -> None:
        self.world = world = World(seed, statistics)
        self.random, pick = world.random, world.random.choice
        probability = pick([0.0, 0.05, 0.2])
        world.cloud.faults = self.faults = Faults(
            throttled=pick([0.0, probability]),
            lost_before=pick([0.0, probability]),
            lost_after=pick([0.0, probability]),
            partial=pick([0.0, probability]),
            lag=pick([0.0, LAG]),
            termination_delay=pick([0.0, 40.0]),
        )
        world.cloud.limits = Limits(
            parallel=0,
            batch=pick([1, 3, 10]),
            consistency_delay=CONSISTENCY_DELAY,
            tokens=pick([True, True, False]),
        )
        world.cloud.choices = [Choice(zone="a"), Choice(zone="b")]
        world.cloud.required_resources = pick([{}, {"group": Resource(kind="security group")}])
        world.options = Options(
            joins=pick([1.0, 0.9, 0.5]),
            silence=pick([0.0, 0.1]),
            deaths=pick([40.0, 150.0, 500.0]),
            slowness=pick([0.0, 0.02]),
        )
        self.survival = pick([1.0, 0.7, 0.3])
        """Probability that a process lives as long as it wants."""
        self.end = world.stage.now + STORY
        self.base = self.spec_document()

    def spec_document(self) -> dict[str, Any]:
        pick = self.random.choice
        return {
            "cluster": {
                "name": "sim",
                "provider": "fake",
                "join_timeout": JOIN_TIMEOUT,
                "protect": pick([False, False, False, True]),
                **pick([{}, {}, {}, {"ttl": 1200.0}]),
            },
            "defaults": {"size": pick(["m", ["m", "n"]]), "spot": pick([False, True])},
            "workers": {
                "cpu": {
                    "count": pick([1, 2, 4]),
                    "options": {"nthreads": pick([1, 2])},
                    "max_unavailable": pick(["100%", "25%"]),
                },
                "elastic": {"min": pick([0, 1, 2]), "max": pick([2, 4])},
            },
        }

    def spec(self) -> Spec:
        """Return the next spec: only the workers change, mostly."""
        new = self.spec_document()
        if self.random.random() < 0.8:
            new["cluster"] = {**self.base["cluster"], "protect": new["cluster"]["protect"]}
        new["defaults"] = self.base["defaults"]
        return Spec.model_validate(new)

    def process_options(self, points: int) -> dict[str, Any]:
        lives = self.random.random() < self.survival
        return {
            "die_at": None if lives else self.random.randrange(points),
            "machine": self.random.choice(["a", "a", "b"]),
        }

    def has_time(self) -> bool:
        return self.world.stage.now < self.end

    def watcher(self, actor: Actor) -> None:
        """Watch; another watcher starts when it has stopped."""
        while self.has_time():
            self.world.watch(actor, self.random.choice([10.0, 30.0]), **self.process_options(120))
            actor.pause(self.random.uniform(0.0, 120.0))

    def person(self, actor: Actor) -> None:
        """Apply, scale, destroy."""
        world = self.world
        while self.has_time():
            done = self.random.random()
            spec, options = self.spec(), PlanOptions()
            if done < 0.3:
                size = self.random.randrange(5)
                spec, options = None, PlanOptions(mode=Mode.SCALE, sizes={"elastic": size})
            elif done < 0.36:
                options = PlanOptions(mode=Mode.DESTROY)
            world.apply(actor, spec, options, **self.process_options(60))
            actor.pause(self.random.uniform(0.0, 300.0))

    def operator(self, actor: Actor) -> None:
        """Unlock what dead processes have left, and sometimes what a living one holds; stop watchers."""
        world, disk = self.world, self.world.disk
        while self.has_time():
            actor.pause(self.random.uniform(20.0, 200.0))
            if disk.is_abandoned or (disk.holder and self.random.random() < 0.02):
                world.is_excused = world.is_excused or not disk.is_abandoned
                world.statistics["unlocks"] += 1
                disk.holder = None
            watchers = [
                other.process
                for other in world.stage.actors
                if other.process and other.process.kind == "watch" and not other.process.is_dead
            ]
            if watchers and self.random.random() < 0.1:
                self.random.choice(watchers).stop()

    def nature(self, actor: Actor) -> None:
        """Let VMs end, and the cloud fail."""
        world = self.world
        while self.has_time():
            actor.pause(self.random.expovariate(1.0 / world.options.deaths))
            alive = [vm for vm in world.own_vms() if vm.name != SCHEDULER]
            if self.random.random() < 0.03:
                alive = world.own_vms()
            if not alive:
                continue
            vm, event = self.random.choice(alive), self.random.random()
            world.statistics["VMs lost"] += event < 0.75
            world.trace(f"nature {vm.name} {vm.id} {event:.2f}")
            if event < 0.75:
                world.cloud.end_reasons.pop(vm.id, None)
            if event < 0.5:
                world.cloud.end_vm(vm.id, self.random.choice([0.0, 0.0, 30.0]))
            elif event < 0.6:
                world.cloud.stop_vm(vm.id)
            elif event < 0.75:
                world.noticed.add(vm.id)
                machine, at = world.cloud.machines[vm.id], world.stage.now + 120.0
                machine.stopping_at = min(machine.stopping_at, at)
                machine.ended_at = min(machine.ended_at, at)
            elif event < 0.85:
                world.cloud.capacity["m"] = self.random.randrange(4)
            elif event < 0.9:
                world.cloud.faults = replace(self.faults, throttled=1.0)
                actor.pause(self.random.uniform(10.0, 300.0))
                world.cloud.faults = self.faults
            else:
                world.cloud.capacity.clear()

    def run(self) -> None:
        watchers = [self.watcher] * self.random.choice([1, 2, 3])
        people = [self.person] * self.random.choice([1, 1, 2])
        self.world.run(*watchers, *people, self.operator, self.nature, self.ender)
        self.world.is_calm = True
        self.world.run(self.calm)

    def ender(self, actor: Actor) -> None:
        """Kill all processes at the end of the story."""
        actor.pause(STORY)
        for other in self.world.stage.actors:
            if other.process is not None:
                other.process.kill()

    def calm(self, actor: Actor) -> None:
        """Let one watcher do its work on a cloud without faults; then apply once more."""
        world = self.world
        world.cloud.faults, world.disk.holder = Faults(), None
        world.cloud.capacity.clear()
        world.options.slowness = 0.0
        actor.pause(CONSISTENCY_DELAY + LAG + 60.0)
        run_calm_watch(world, actor, CALM)
        if check_watched(world):
            serial = world.serial
            run_calm_watch(world, actor, 300.0)
            # Elastic nodes may outlive a ttl that an interrupted apply did not give to the scheduler.
            have_ttl = any(vm.id in world.ttl_ends for vm in world.own_vms())
            if world.serial != serial and not have_ttl:
                world.stage.fail("a round writes, although nothing is left to do")
        self.check_applied(actor)

    def check_applied(self, actor: Actor) -> None:
        """Check that an apply on a cloud without faults does all the rest."""
        world, fail, spec = self.world, self.world.stage.fail, self.spec()
        world.joins_at = dict.fromkeys(world.joins_at, 0.0)  # also nodes that watchers gave up on
        spec = spec.model_copy(
            update={"cluster": spec.cluster.model_copy(update={"protect": False})}
        )
        options = PlanOptions()
        if not any(world.apply(actor, spec, options, wait=True) for _ in range(3)):
            fail("an apply on a cloud without faults fails")
        remaining = plan(world.start(actor, "plan", spec), options).plan.changes
        if remaining:
            fail(f"something is left to do: {remaining}")
        names = Counter(str(vm.name) for vm in world.own_vms())
        cpus = {node_name("cpu", i) for i in range(spec.workers["cpu"].count or 0)}
        fixed = {name for name in names if split_name(name)[0] != "elastic"}
        if fixed != {SCHEDULER, *cpus} or max(names.values()) > 1:
            fail(f"not as specified: {names}")


def run_story(seed: int, statistics: Statistics, *, trace: bool = False) -> None:
    """Run one story with watchers; raise Violation."""
    story = Story(seed, statistics)
    if trace:
        stage = story.world.stage
        story.world.trace = lambda text: print(
            f"{stage.now - 1e6:8.1f} {stage.actors.index(stage.current)} {text}"
        )
    try:
        story.run()
    finally:
        cloud, disk = story.world.cloud, story.world.disk
        statistics.update(
            {
                "stories with watchers": 1,
                "provider calls": cloud.calls.total(),
                "faults injected": cloud.injected.total(),
                "locks of dead processes taken over": disk.takeovers,
                "stories with an unlocked process": story.world.is_excused,
            }
        )


if __name__ == "__main__":  # python -m simulator.watched SEED [SEEDS], in tests/
    import sys
    import time

    statistics = Statistics()
    start, number = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    began = time.process_time()
    for seed in range(start, start + number):
        try:
            run_story(seed, statistics, trace=number == 1)
        except Violation as violation:
            statistics["violations"] += 1
            print(f"seed {seed}: {violation}", flush=True)
    print(dict(statistics), f"{time.process_time() - began:.1f} s CPU")
