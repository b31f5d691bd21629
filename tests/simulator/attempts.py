"""The launches that failed attempts leave to watchers, counted from what exists and not by the product."""

from dataclasses import dataclass, field
from itertools import pairwise

from fake_provider import FakeCloud, Machine
from simulator.scenario import LAG

from planapply.model.names import split_name
from planapply.model.spec import WorkerGroup
from planapply.model.state import State
from planapply.model.watch import MAX_ATTEMPTS

SHORT_LIFE = 600.0
"""A VM that is succeeded this soon after its launch was a failed attempt."""


@dataclass
class Pool:
    """An elastic group since a person's process wrote the state; nodes that are lost get new names."""

    existing: int = 0
    requested: int = 0
    """Nodes in open requests, which are launched even if the group needs none."""
    names: set[str] = field(default_factory=set)
    """The names that the group had, and those that watchers launched."""
    launched: int = 0
    long_lives: int = 0
    judged: set[str] = field(default_factory=set)
    """The lost VMs whose lives are known to be short, or are counted."""

    def allowed(self, least: int) -> int:
        """Return how many new names watchers may launch: a node that exists is the first attempt."""
        successors = min(self.existing, least) * (MAX_ATTEMPTS - 1)
        missing = max(0, least - self.existing)
        return successors + (missing + self.requested + self.long_lives) * MAX_ATTEMPTS


class Attempts:
    """The VMs that nodes have had since a person's process has let watchers try again."""

    def __init__(self, cloud: FakeCloud) -> None:
        self.cloud = cloud
        self.recorded: dict[str, list[str]] = {}
        """Name -> the VMs that the state has had for it since the last apply began."""
        self.pools: dict[str, Pool] = {}

    def on_write(self, kind: str, state: State, *, is_first: bool) -> None:
        """Note which VMs a process of this kind has recorded."""
        if kind == "apply" and is_first:
            self.recorded.clear()
        if kind != "watch":
            self.pools.clear()
        for name, record in state.nodes.items():
            vms = self.recorded.setdefault(name, [])
            if record.status == "terminating" and kind != "watch":
                vms.clear()  # the end that people wanted is no failure
            elif record.vm not in vms:
                vms.append(record.vm)
            if kind != "watch":
                pool = self._pool(split_name(name)[0])
                pool.names.add(name)
                pool.existing += 1
        if kind != "watch":
            for name in {n for i in state.intents.values() for n in i.names} - state.nodes.keys():
                self._pool(split_name(name)[0]).requested += 1

    def violation(self, name: str, group: WorkerGroup, looked_at: float, now: float) -> str:
        """Return why a watcher that looked then must not have launched a VM for this node now, if so."""
        chain = [self.cloud.machines[id].launched_at for id in self.recorded.get(name, [])]
        gaps = [later - earlier for earlier, later in pairwise([*chain, now])]
        if len(gaps) >= MAX_ATTEMPTS and max(gaps[-MAX_ATTEMPTS:]) < SHORT_LIFE:
            return f"{len(gaps)} failed attempts"
        if group.count is not None:
            return ""
        pool = self._pool(split_name(name)[0])
        self._judge(pool, split_name(name)[0], looked_at, now)
        if name not in pool.names:
            pool.names.add(name)
            pool.launched += 1
        if pool.launched > pool.allowed(group.min or 0):
            return f"{pool.launched} launches for {pool}"
        return ""

    def _pool(self, group: str) -> Pool:
        if group not in self.pools:
            recorded = {vms[-1] for vms in self.recorded.values() if vms}
            gone = {m.vm.id for m in self._lost(group) if m.vm.id not in recorded}
            self.pools[group] = Pool(judged=gone)
        return self.pools[group]

    def _lost(self, group: str) -> list[Machine]:
        now = self.cloud.clock.time()
        return [
            machine
            for machine in self.cloud.machines.values()
            if split_name(str(machine.vm.name))[0] == group and end_of(machine) <= now
        ]

    def _judge(self, pool: Pool, group: str, looked_at: float, now: float) -> None:
        """Count the lives that a watcher may have taken for long: it judges when it sees the end."""
        for machine in self._lost(group):
            if machine.vm.id in pool.judged:
                continue
            is_long = now - machine.launched_at >= SHORT_LIFE
            pool.long_lives += is_long
            if is_long or end_of(machine) <= looked_at - LAG:
                pool.judged.add(machine.vm.id)


def end_of(machine: Machine) -> float:
    """Return when a VM stops to work, in seconds; infinite if that is not known."""
    return min(machine.stopping_at, machine.stopped_at, machine.ended_at)
