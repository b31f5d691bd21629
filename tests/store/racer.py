"""A separate process that uses a store: `python racer.py ACTION LOCATION [ARGUMENT]…`.

`count N`: N times, take the lock, and increase a counter in the state. `hold`: take the lock, print
its ID, and wait to be killed. `write`: write forever; print a line before each serial, and another one
when it is durable.
"""

import sys
import threading

from planapply.model.state import State
from planapply.store import open_store


def count(location: str, times: str) -> None:
    """Increase the state's pin `n` by `times`, one write at a time."""
    store = open_store(location)
    for _ in range(int(times)):
        with store.lock("count", timeout=600):
            state = store.read() or State(lineage="l", cluster="demo", provider="local")
            state.serial += 1
            state.pins["n"] = state.pins.get("n", 0) + 1
            store.write(state)


def hold(location: str) -> None:
    """Hold the lock until this process is killed."""
    with open_store(location).lock("apply") as lock:
        print(lock.id, flush=True)
        threading.Event().wait()


def write(location: str) -> None:
    """Write states forever, so large that a kill interrupts a write."""
    store = open_store(location)
    with store.lock("apply", timeout=60):
        state = store.read() or State(lineage="l", cluster="demo", provider="local")
        while True:
            state.serial += 1
            state.pins["filler"] = str(state.serial) * 20_000
            print("writing", state.serial, flush=True)
            store.write(state)
            print("written", state.serial, flush=True)


if __name__ == "__main__":
    {"count": count, "hold": hold, "write": write}[sys.argv[1]](*sys.argv[2:])
