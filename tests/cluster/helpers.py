"""Helpers of the cluster tests."""

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
"""Seconds; far more than needed, since a busy machine is not a defect."""


def apply_pending(cluster: Cluster) -> None:
    """Wait until the requested changes are done; raise the error of a change that failed."""
    cluster.sync(cluster._correct_state)


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds; the limit only stops a broken test."""
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.01)


async def wait_for_other_tasks() -> None:
    """Wait until no other task is left in this event loop, which takes a few turns after a close."""
    end = time.monotonic() + TIMEOUT
    while (tasks := asyncio.all_tasks()) != {asyncio.current_task()}:
        assert time.monotonic() < end, tasks
        await asyncio.sleep(0.01)


def change_state(workspace: Workspace, change: Callable[[State], None]) -> None:
    """Change the state as another process might do."""
    with workspace.store.lock("test"):
        Journal(workspace.store, workspace.read()).update(change)


def count_runs(client: Client, log: Path, tasks: int) -> list[Future]:
    """Submit tasks that log each of their runs."""

    def run(number: int) -> int:
        with log.open("a") as file:
            file.write(f"{number}\n")
        return number

    futures: list[Future] = client.map(run, range(tasks), pure=False)
    return futures


def read_runs(log: Path) -> list[int]:
    """Return the numbers of the tasks that ran, sorted."""
    return sorted(map(int, log.read_text().split()))


EVENTS: dict[str, threading.Event] = {}


def wait_for(event: str) -> bool:
    """Keep a worker in this process busy until the event is set; submit it as a task."""
    return EVENTS[event].wait(TIMEOUT)
