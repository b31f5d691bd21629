"""Time of 5,000 cheap handles in `planapply.Cluster`, compared with `distributed.SpecCluster` in the same run."""

import asyncio
import logging
import time
from contextlib import nullcontext
from typing import Any

from distributed import Scheduler, SpecCluster

import planapply
from planapply.dask.batching import Queue
from planapply.model.node import NodeConfig
from planapply.model.state import NodeRecord

NODES = 5000


class CountingFleet:
    """The part of a fleet that a queue needs; it answers immediately, and counts the batches."""

    def __init__(self) -> None:
        self.launches: list[int] = []
        self.ends: list[int] = []
        self.journal = self

    def read(self, look: Any) -> Any:
        return self.known

    known: set[str] = set()

    def launch(self, wanted: Any) -> dict[str, NodeRecord]:
        self.launches.append(len(wanted))
        self.known = {node.name for node in wanted}
        return {
            node.name: NodeRecord(vm=node.name, config="c", batch="b", private_address="127.0.0.1")
            for node in wanted
        }

    def terminate(self, names: Any) -> None:
        self.ends.append(len(list(names)))


async def up_and_down(cls: Any, fleet: CountingFleet) -> tuple[float, float]:
    queue = Queue(lambda: nullcontext(fleet))  # type: ignore[arg-type, return-value]
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
    mine, theirs = seconds[planapply.Cluster], seconds[SpecCluster]
    print(f"up and down together: {sum(mine) / sum(theirs):.2f} times SpecCluster's time")


if __name__ == "__main__":
    main()
