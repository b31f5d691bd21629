"""A process of its own that uses a store: `python racer.py WHAT LOCATION [ARGUMENT]…`.

`count N`: under the lock, N times, read and write one more. `hold`: lock, say so, wait for the end.
`write`: write without end, one line before each serial and one after it is durable.
"""

import sys
import threading

from planapply.model.state import State
from planapply.store import open_store


def count(location: str, times: str) -> None:
    """Adds `times` to the state's pin `n`, one write at a time."""
    store = open_store(location)
    for _ in range(int(times)):
        with store.lock("count", timeout=600):
            state = store.read() or State(lineage="l", cluster="demo", provider="local")
            state.serial += 1
            state.pins["n"] = state.pins.get("n", 0) + 1
            store.write(state)


def hold(location: str) -> None:
    """Holds the lock until it is killed."""
    with open_store(location).lock("apply") as lock:
        print(lock.id, flush=True)
        threading.Event().wait()


def write(location: str) -> None:
    """Writes ever new states, large enough to be met in the middle."""
    store = open_store(location)
    with store.lock("apply", timeout=60):
        state = store.read() or State(lineage="l", cluster="demo", provider="local")
        while True:
            state.serial += 1
            state.pins["filler"] = str(state.serial) * 20_000
            print("asked", state.serial, flush=True)
            store.write(state)
            print("written", state.serial, flush=True)


if __name__ == "__main__":
    {"count": count, "hold": hold, "write": write}[sys.argv[1]](*sys.argv[2:])
