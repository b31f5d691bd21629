"""A watcher on a cloud without faults, and what the cluster must be then."""

from collections import Counter
from math import inf

from simulator.stage import Actor
from simulator.world import World

from planapply.model.names import SCHEDULER, node_name, split_name
from planapply.model.watch import MAX_ATTEMPTS
from planapply.ops.recorded_spec import recorded_spec


def run_calm_watch(world: World, actor: Actor, seconds: float) -> None:
    """Let one watcher run for a time."""
    end = world.stage.now + seconds

    def stop(timer: Actor) -> None:
        timer.pause(end - world.stage.now)
        assert actor.process is not None
        actor.process.stop()

    timer = Actor(world.stage, stop)
    timer.thread.start()
    world.watch(actor, 60.0)


def check_watched(world: World) -> bool:
    """Check that a watcher has brought the cluster to the spec that was applied last, if it can."""
    fail = world.stage.fail
    world.check_no_vm_lost()
    state = world.state()
    if state is None or state.is_empty or (spec := recorded_spec(state)) is None:
        return False
    alive = Counter(str(vm.name) for vm in world.own_vms())
    twice = [name for name, number in alive.items() if number > 1]
    if twice:
        fail(f"there twice: {twice}")
    scheduler = world.cloud.machines.get(state.scheduler.vm) if state.scheduler else None
    if (
        scheduler is None
        or SCHEDULER not in alive
        or min(scheduler.ended_at, scheduler.stopped_at) < inf
    ):
        return False  # a watcher launches none, and nothing for one that ends
    if state.intents:
        fail(f"intents are open: {state.intents}")
    given_up = {n for n, vms in state.attempts.items() if len(vms) >= MAX_ATTEMPTS}
    cpu, elastic = spec.workers["cpu"], spec.workers["elastic"]
    done = {
        n for n, r in state.nodes.items() if world.ttl_ends.get(r.vm, inf) <= world.stage.now
    }  # these are not lost
    missing = {node_name("cpu", i) for i in range(cpu.count or 0)} - alive.keys() - given_up - done
    if missing:
        fail(f"missing: {sorted(missing)}")
    size = sum(1 for name in alive if split_name(name)[0] == "elastic")
    lost = sum(1 for name in given_up if split_name(name)[0] == "elastic" and name not in alive)
    if size + lost < (elastic.min or 0) or (not spec.cluster.protect and size > elastic.max):
        fail(f"{size} elastic nodes, {lost} given up: {elastic.min} to {elastic.max}")
    world.statistics["watches without faults that reached the spec"] += 1
    world.statistics["nodes given up"] += len(given_up)
    return True
