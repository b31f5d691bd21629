"""Cost of one more node in an apply and in a destroy, compared with Terraform's `terraform_data`.

The benchmark runs the engine in one process: the real core, a fake cloud that answers immediately,
and the real local store. `make bench` runs it. The seconds depend on the machine and the run; compare
the ratios and the counts.
"""

import asyncio
import gc
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from planapply.dask.execute import execute
from planapply.diff import create_destroy_plan, create_plan, refresh
from planapply.fleet import Fleet, Journal, ProviderClient, SystemClock
from planapply.model.desired import DesiredState, Group
from planapply.model.node import VM, NodeConfig
from planapply.model.state import Choice, State
from planapply.provider import LaunchRequest, LaunchResult, Limits
from planapply.store import open_store


class InstantProvider:
    """A provider that answers immediately, and whose time per call depends only on that call."""

    limits = Limits(batch=100, consistency_delay=0.0, poll=0.001)

    def __init__(self) -> None:
        self.vms: dict[str, VM] = {}
        self.calls: Counter[str] = Counter()

    def identity(self) -> dict[str, str]:
        return {"account": "bench"}

    def alternatives(self, config: NodeConfig) -> Sequence[Choice]:
        return [Choice()]

    def launch(self, request: LaunchRequest) -> LaunchResult:
        self.calls["launch"] += 1
        made = tuple(
            VM(
                id=f"{request.token}-{index}",
                tags=dict(request.tags),
                index=index,
                private_address="127.0.0.1",
                port=1,
                launched_at=0.0,
            )
            for index in range(len(request.names))
        )
        self.vms.update({vm.id: vm for vm in made})
        return LaunchResult(made)

    def find(self, tags: Mapping[str, str]) -> list[VM]:
        self.calls["find"] += 1
        return [vm for vm in self.vms.values() if tags.items() <= vm.tags.items()]

    def terminate(self, ids: Sequence[str]) -> Sequence[str]:
        self.calls["terminate"] += 1
        return [id for id in ids if self.vms.pop(id, None) is None]


def time_planapply(nodes: int, folder: Path) -> tuple[float, float, int]:
    """Return the seconds of an apply and of a destroy of this many workers, and the number of state writes."""
    clock = SystemClock()
    provider = InstantProvider()
    store = open_store(str(folder / f"{nodes}.json"))
    desired = DesiredState(
        cluster="bench",
        provider="fake",
        scheduler=NodeConfig(group="scheduler", cls="distributed.Scheduler"),
        groups=(
            Group(name="cpu", config=NodeConfig(group="cpu", cls="distributed.Nanny"), count=nodes),
        ),
        spec_digest="d",
    )
    state = State(lineage="l", cluster="bench", provider="fake")
    journal = Journal(store, state)
    fleet = Fleet(ProviderClient(provider, clock), journal)
    with store.lock("benchmark"):
        start = time.perf_counter()
        plan = create_plan(desired, refresh(state, [], clock.time(), 0.0))
        failures = asyncio.run(execute(plan, fleet, resources={}, wait=False))
        middle = time.perf_counter()
        assert not failures
        assert len(provider.vms) == nodes + 1
        journal.update(
            lambda state: setattr(state, "endpoint", None)
        )  # without a scheduler, there is nothing to retire
        plan = create_destroy_plan(refresh(state, fleet.find(), clock.time(), 0.0))
        failures = asyncio.run(execute(plan, fleet, resources={}, wait=False))
        end = time.perf_counter()
        assert not failures
        assert not provider.vms
    return middle - start, end - middle, journal.writes


def time_terraform(nodes: int, folder: Path) -> tuple[float, float]:
    """Return the seconds of `terraform apply` and `terraform destroy` of this many `terraform_data`."""
    workdir = folder / f"terraform-{nodes}"
    workdir.mkdir()
    (workdir / "main.tf").write_text(
        f'resource "terraform_data" "node" {{\n  count = {nodes}\n  input = count.index\n}}\n'
    )
    environment = os.environ | {"TF_CLI_CONFIG_FILE": os.devnull}
    subprocess.run(
        ["terraform", "init"], cwd=workdir, check=True, stdout=subprocess.DEVNULL, env=environment
    )
    seconds = []
    for command in ("apply", "destroy"):
        start = time.perf_counter()
        subprocess.run(
            ["terraform", command, "-auto-approve"],
            cwd=workdir,
            check=True,
            stdout=subprocess.DEVNULL,
            env=environment,
        )
        seconds.append(time.perf_counter() - start)
    return seconds[0], seconds[1]


def slope(few: tuple[float, ...], many: tuple[float, ...], more: int) -> list[float]:
    """Return the seconds that one more node costs."""
    return [(b - a) / more for a, b in zip(few, many, strict=True)]


def main() -> None:
    gc.set_threshold(200_000)  # as the command does: planapply/cli/__init__.py
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        time_planapply(100, folder)  # loads imports and caches
        results = {nodes: time_planapply(nodes, folder) for nodes in (1000, 5000, 10_000)}
        print(f"{'nodes':>8} {'apply s':>9} {'destroy s':>10} {'state writes':>13}")
        for nodes, (apply, destroy, writes) in results.items():
            print(f"{nodes:>8} {apply:>9.2f} {destroy:>10.2f} {writes:>13}")
        planapply = slope(results[1000][:2], results[5000][:2], 4000)
        growth = [results[10_000][i] / results[1000][i] for i in range(2)]
        print(
            f"10,000 nodes compared with 1,000: apply {growth[0]:.1f} times, destroy {growth[1]:.1f} times"
        )
        figures = {
            "apply_ms": planapply[0] * 1000,
            "destroy_ms": planapply[1] * 1000,
            "growth": growth,
        }
        if shutil.which("terraform"):
            terraform = slope(time_terraform(200, folder), time_terraform(1000, folder), 800)
            ratios = [t / m for t, m in zip(terraform, planapply, strict=True)]
            print("one more node, in ms:  planapply  terraform  ratio")
            for what, m, t, r in zip(
                ("apply", "destroy"), planapply, terraform, ratios, strict=True
            ):
                print(f"{what:>20}  {m * 1000:>10.3f} {t * 1000:>10.2f} {r:>6.0f}")
            figures["ratios"] = ratios
        else:
            print("terraform is not on PATH: not compared")
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
