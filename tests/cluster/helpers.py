"""What the tests of clusters share."""

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

from distributed import Client, Future

from planapply import Cluster
from planapply.fleet import Journal
from planapply.model.state import State
from planapply.ops.workspace import Workspace

TIMEOUT = 120.0
"""Seconds, for what takes a tenth of one: a busy machine is no defect."""


def apply_pending(cluster: Cluster) -> None:
    """Wait until what was asked of the cluster is done; raises what failed."""
    cluster.sync(cluster._correct_state)


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for something that will come; the limit only ends a broken test."""
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


async def wait_for_other_tasks() -> None:
    """Wait until no other task is left in this event loop: what was closed ends in a few turns."""
    end = time.monotonic() + TIMEOUT
    while (tasks := asyncio.all_tasks()) != {asyncio.current_task()}:
        assert time.monotonic() < end, tasks
        await asyncio.sleep(0.01)


def change_state(workspace: Workspace, change: Callable[[State], None]) -> None:
    """What another process might have written."""
    with workspace.store.lock("test"):
        Journal(workspace.store, workspace.read()).update(change)


def count_runs(client: Client, log: Path, tasks: int) -> list[Future]:
    """Tasks that write down each time they are run."""

    def run(number: int) -> int:
        with log.open("a") as file:
            file.write(f"{number}\n")
        return number

    futures: list[Future] = client.map(run, range(tasks), pure=False)
    return futures


def read_runs(log: Path) -> list[int]:
    """The numbers of the tasks that were run, in order of number."""
    return sorted(map(int, log.read_text().split()))


EVENTS: dict[str, threading.Event] = {}


def wait_for(event: str) -> bool:
    """A task that is busy until the event comes; its worker is in this process."""
    return EVENTS[event].wait(TIMEOUT)
