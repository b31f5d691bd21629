"""One fixed story, in which the watcher is killed at a given point."""

from dataclasses import replace

from simulator.calm import check_watched, run_calm_watch
from simulator.scenario import Statistics
from simulator.stage import Actor
from simulator.world import Options, World

from planapply.model.names import split_name
from planapply.model.spec import Spec
from planapply.model.watch import MAX_ATTEMPTS

JOIN_TIMEOUT = 100.0
SPEC = Spec.model_validate(
    {
        "cluster": {"name": "sim", "provider": "fake", "join_timeout": JOIN_TIMEOUT},
        "defaults": {"spot": True},
        "workers": {
            "cpu": {"count": 3, "max_unavailable": 1},
            "elastic": {"min": 1, "max": 2},
        },
    }
)
WATCH, CALM = 400.0, 600.0
"""Seconds for which the watcher runs, and one that is not killed; a node may need all attempts in the latter."""


class KilledWatcher:
    """An apply, a lost node, a spot notice, nodes that never join, and a watcher that is killed at a point.

    Another watcher follows. With `tokens`, the cloud knows a launch that is repeated.
    """

    def __init__(self, die_at: int, *, tokens: bool) -> None:
        self.world = world = World(0, Statistics())
        self.die_at, self.is_killed = die_at, False
        world.options = Options(joins=1.0, silence=0.0)
        world.cloud.limits = replace(world.cloud.limits, tokens=tokens, consistency_delay=30.0)
        world.never_join = frozenset({"cpu-2", *(f"elastic-{i}" for i in range(20))})

    def run(self) -> bool:
        """Run the story; return whether the watcher was killed. Raises Violation."""
        self.world.run(self.act)
        return self.is_killed

    def act(self, actor: Actor) -> None:
        world = self.world
        world.apply(actor, SPEC, wait=False)
        actor.pause(JOIN_TIMEOUT)
        vms = {str(vm.name): vm.id for vm in world.own_vms()}
        world.cloud.end_vm(vms["cpu-0"])
        world.noticed.add(vms["cpu-1"])
        self._watch(actor)
        world.is_calm = True
        actor.pause(60.0)
        run_calm_watch(world, actor, CALM)
        if not check_watched(world):
            world.stage.fail("the scheduler is lost")
        self._check_all()

    def _watch(self, actor: Actor) -> None:
        world, end = self.world, self.world.stage.now + WATCH

        def stop(timer: Actor) -> None:
            timer.pause(end - world.stage.now)
            if actor.process is not None and not world.is_calm:  # else it was killed
                actor.process.stop()

        timer = Actor(world.stage, stop)
        timer.thread.start()
        world.watch(actor, 60.0, die_at=self.die_at)
        self.is_killed = world.statistics["processes killed"] > 0

    def _check_all(self) -> None:
        """Check that each lost node was launched again, and cpu-2 and the elastic node as often as attempts allow."""
        world, fail = self.world, self.world.stage.fail
        state = world.state()
        assert state is not None
        given_up = [n for n, vms in state.attempts.items() if len(vms) >= MAX_ATTEMPTS]
        if sorted(split_name(name)[0] for name in given_up) != ["cpu", "elastic"]:
            fail(f"given up: {state.attempts}")
        alive = {str(vm.name): vm.id for vm in world.own_vms()}
        if alive["cpu-1"] in world.noticed:
            fail("cpu-1 was not replaced")
        names = [str(machine.vm.name) for machine in world.cloud.machines.values()]
        for start in ("cpu-2", "elastic"):
            if sum(name.startswith(start) for name in names) != MAX_ATTEMPTS:
                fail(f"not {MAX_ATTEMPTS} VMs for {start}: {names}")
