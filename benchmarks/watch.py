"""Rounds of `watch` on an unchanged cluster: calls, writes, CPU compared with a plan, and memory.

The benchmark runs the real rounds in one process, with a cloud that answers immediately and the real
local store. Compare the ratio and the counts: the seconds depend on the machine.
"""

import gc
import os
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import psutil
from engine import InstantProvider
from pydantic import BaseModel

from planapply.fleet import ProviderClient
from planapply.model.node import VM
from planapply.model.spec import Spec
from planapply.model.state import State
from planapply.model.watch import Round
from planapply.ops.apply import ApplyOptions, apply
from planapply.ops.heal import Healer
from planapply.ops.plan import plan
from planapply.ops.workspace import Workspace
from planapply.provider import Plugin
from planapply.store import open_store

NODES = 1000
ROUNDS = 1000
SPEC = f"""
[cluster]
name = "bench"
provider = "instant"
[workers.cpu]
count = {NODES}
"""


class NoSettings(BaseModel):
    """The settings of the cloud, which has none."""


PLUGIN = Plugin(
    "instant", "answers immediately", NoSettings, connect=lambda settings: settings, security="none"
)


class CountingProvider(InstantProvider):
    """A cloud that counts all calls."""

    def lookup(self, ids: Sequence[str]) -> Mapping[str, VM | None]:
        self.calls["lookup"] += 1
        return {id: self.vms.get(id) for id in ids}


class BenchWorkspace(Workspace):
    """A workspace with that cloud."""

    provider: CountingProvider

    def plugin(self, state: State | None) -> Plugin:
        return PLUGIN

    def connect(self, state: State | None) -> ProviderClient:
        return ProviderClient(self.provider, self.clock)


def main() -> None:
    """Print what a round costs."""
    provider = CountingProvider()

    def workspace(spec: Spec | None) -> BenchWorkspace:
        made = BenchWorkspace(open_store("state.json"), spec=spec)
        made.provider = provider
        return made

    spec = Spec.model_validate(tomllib.loads(SPEC))
    options = ApplyOptions(wait=False, parallel=0)
    apply(workspace(spec), lambda plan: True, apply_options=options)
    store = open_store("state.json")
    state = store.read()
    assert state is not None
    for record in state.nodes.values():
        record.status = "joined"
    store.write(state)

    plan(workspace(spec))
    start = time.process_time()
    for _ in range(10):
        plan(workspace(spec))
    cpu_of_plan = (time.process_time() - start) / 10

    healer = Healer(workspace(None), nullcontext)
    healer.run_round()
    provider.calls.clear()
    written_at, memory = os.stat("state.json").st_mtime_ns, []
    start = time.process_time()
    for number in range(ROUNDS):
        result = healer.run_round()
        assert result == Round()
        if number % 250 == 0 or number == ROUNDS - 1:
            gc.collect()
            memory.append(round(psutil.Process().memory_info().rss / 2**20))
    cpu = (time.process_time() - start) / ROUNDS
    calls = provider.calls.total() / ROUNDS
    is_written = os.stat("state.json").st_mtime_ns != written_at
    print(f"{NODES:,} nodes, {ROUNDS:,} rounds: {calls:g} calls a round, written: {is_written}")
    print(f"a round takes {1e3 * cpu:.1f} ms of CPU: {cpu / cpu_of_plan:.2f} times a plan")
    print(f"memory in MiB, every 250 rounds: {memory}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("home").mkdir()
        os.environ["HOME"] = str(Path("home").absolute())
        main()
