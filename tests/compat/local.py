"""Local clusters that an earlier planapply has started, started again by their own keepers."""

import json
import os
import platform
import random
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from cli.commands import Result, Run
from compat.kept import FIXTURES, LOCK, SPEC, STATE, of_this_machine

KEEPER = FIXTURES / "keeper.txt"
SECONDS = 300
"""Only ends a broken test."""


class LocalSite:
    """The current folder with a kept spec and state, and the processes of that moment."""

    def __init__(self, cluster: str, run: Run) -> None:
        self.kept = FIXTURES / cluster
        document = json.loads((self.kept / "orders.json").read_text())
        own = document["own"]
        self.name = f"{own['name']}-{uuid.uuid4().hex[:8]}"
        self._run = run
        self._values = {
            own["home"]: os.environ["HOME"],
            own["lineage"]: str(uuid.uuid4()),
            own["name"]: self.name,
            own["port"]: str(_port()),
            **{token: f"{random.getrandbits(80):020x}" for token in own["tokens"]},
        }
        self.cloud = {"host": platform.node(), "user": str(os.getuid())}
        self.orders: list[dict[str, Any]] = json.loads(self.own(json.dumps(document["orders"])))

    def own(self, text: str) -> str:
        """Return a text with this test's folder, port, name, lineage and tokens.

        Clusters of tests that run side by side must not see each other's processes.
        """
        for recorded, value in self._values.items():
            text = text.replace(recorded, value)
        return text

    def put(self, moment: str) -> None:
        """Write the spec and the state of a moment."""
        Path(SPEC).write_text(self.own((self.kept / SPEC).read_text()))
        state = (self.kept / f"{moment}.state.json").read_text()
        assert json.loads(state)["cloud"].keys() == self.cloud.keys()
        recorded = json.dumps(json.loads(state)["cloud"], indent=1).replace("\n", "\n ")
        assert recorded in state
        own = json.dumps(self.cloud, indent=1).replace("\n", "\n ")
        Path(STATE).write_text(self.own(state.replace(recorded, own)))
        if (lock := self.kept / f"{moment}.lock").exists():
            Path(LOCK).write_bytes(of_this_machine(lock.read_bytes()))

    def start(self, count: int) -> None:
        """Start the first VMs in the order of their launches, as earlier code did."""
        for kept in self.orders[:count]:
            order = dict(kept["order"])
            order["argv"] = [sys.executable, *order["argv"][1:]]
            order["env"] = {**os.environ, **order["env"]}
            order["psutil"] = str(Path(psutil.__file__).parent.parent)
            Path(order["folder"]).parent.mkdir(parents=True, exist_ok=True)
            with open(os.devnull) as lock:
                order["lock"] = lock.fileno()
                subprocess.run(
                    [sys.executable, "-I", "-S", str(KEEPER)],
                    input=json.dumps(order).encode(),
                    stdout=subprocess.DEVNULL,
                    cwd="/",
                    env={**os.environ, **kept["keeper"]},
                    pass_fds=(lock.fileno(),),
                    start_new_session=True,
                    check=True,
                )

    def run(self, *arguments: str, code: int = 0) -> Result:
        """Run one command in this process; it must exit with `code`."""
        result = self._run(*arguments)
        assert result.code == code, (arguments, result)
        return result

    def in_state(self) -> dict[str, str]:
        """Return the ids of VMs by node, as the state says."""
        document = json.loads(self.run("show", "--json").out)
        return {name: node["vm"] for name, node in document["nodes"].items()}

    def processes(self) -> list[psutil.Process]:
        """Return every process of this cluster."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if self.name in process.environ().get("PLANAPPLY_TAGS", ""):
                    found.append(process)
        return found

    def ids(self) -> set[str]:
        """Return the ids of live VMs, from the environments of their processes."""
        found = set()
        for process in self.processes():
            with suppress(psutil.Error):
                found.add(process.environ()["PLANAPPLY_VM"])
        return found

    def nothing_is_left(self) -> None:
        assert self.processes() == []
        assert self.in_state() == {}
        folder = Path(os.environ["HOME"]) / ".local" / "state" / "planapply" / "local"
        assert not folder.exists() or os.listdir(folder) == []
        assert not Path(LOCK).exists()


@contextmanager
def revived(cluster: str, moment: str, run: Run, count: int) -> Iterator[LocalSite]:
    """Start the first `count` VMs of a kept cluster at one of its moments; kill all of them at the end."""
    site = LocalSite(cluster, run)
    site.put(moment)
    try:
        site.start(count)
        yield site
    finally:
        while left := site.processes():
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(left)


def eventually(happens: Callable[[], Any], what: str) -> None:
    """Wait until it happens."""
    end = time.monotonic() + SECONDS
    while not happens():
        assert time.monotonic() < end, f"{what}: not within {SECONDS} s"
        time.sleep(0.2)


def _port() -> int:
    """Return a free port that has five digits, as the recorded one has."""
    while True:
        port = random.randrange(20000, 32000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
