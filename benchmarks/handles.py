"""Time of 5,000 cheap handles in `planapply.Cluster`, compared with `distributed.SpecCluster` in the same run."""

import asyncio
import logging
import time
from contextlib import nullcontext
from typing import Any

from distributed import Scheduler, SpecCluster

import planapply
from planapply.dask.batching import RequestQueue
from planapply.model.node import NodeConfig
from planapply.model.state import NodeRecord

NODES = 5000


class CountingFleet:
    """The part of a fleet that a queue needs; it answers immediately, and counts the batches."""

    def __init__(self) -> None:
        self.launches: list[int] = []
        self.ends: list[int] = []
        self.journal = self

    def read(self, query: Any) -> Any:
        return self.known

    known: set[str] = set()

    def launch(self, specs: Any) -> dict[str, NodeRecord]:
        self.launches.append(len(specs))
        self.known = {node.name for node in specs}
        return {
            node.name: NodeRecord(vm=node.name, config="c", batch="b", private_address="127.0.0.1")
            for node in specs
        }

    def terminate(self, names: Any) -> None:
        self.ends.append(len(list(names)))


async def up_and_down(cls: Any, fleet: CountingFleet) -> tuple[float, float]:
    queue = RequestQueue(lambda: nullcontext(fleet))  # type: ignore[arg-type, return-value]
    config = NodeConfig(group="cpu", cls="distributed.Nanny")
    worker = {"cls": planapply.VMWorker, "options": {"config": config, "queue": queue}}
    workers = {f"cpu-{i}": worker for i in range(NODES)}
    scheduler = {"cls": Scheduler, "options": {"dashboard": False, "port": 0, "host": "127.0.0.1"}}
    cluster = cls(workers=workers, scheduler=scheduler, asynchronous=True)
    start = time.perf_counter()
    await cluster
    middle = time.perf_counter()
    cluster.scale(0)
    await cluster
    end = time.perf_counter()
    await cluster.close()
    return middle - start, end - middle


def main() -> None:
    logging.getLogger("distributed").setLevel(logging.WARNING)
    seconds = {}
    for cls in (SpecCluster, planapply.Cluster):
        runs = []
        for _ in range(7):
            fleet = CountingFleet()
            runs.append(asyncio.run(up_and_down(cls, fleet)))
        seconds[cls] = [min(run[i] for run in runs) for i in range(2)]
        print(
            f"{cls.__module__}.{cls.__name__}: {NODES} handles up in {seconds[cls][0]:.2f} s, down in "
            f"{seconds[cls][1]:.2f} s; batches of launches {fleet.launches}, of terminations {fleet.ends}"
        )
    planapply_seconds, distributed_seconds = seconds[planapply.Cluster], seconds[SpecCluster]
    print(
        f"up and down together: {sum(planapply_seconds) / sum(distributed_seconds):.2f} times SpecCluster's time"
    )


if __name__ == "__main__":
    main()
