"""Lab for a test: in `with Machines(tmp_path) as lab, lab.on_network():`, boto3 and commands launch machines.

Inside, the calling thread, its children, and its new threads are on the lab's network, which has the
cloud's API and the machines' public addresses.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from lab.honest import Remote
from lab.hypervisor import find_cgroups, remove_cgroup

_CGROUP = "planapply-lab"
_NEW_NETWORK = 0x40000000


class Machines:
    """Cloud with real machines, within a `with` statement; afterwards nothing of it is left."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        """Prepare a lab; `folder`, for the machines' consoles, must be new."""
        self.folder, self._seed = folder, seed
        self.env: dict[str, str] = {}
        """Environment of processes that use this cloud."""
        self.cloud = Remote("")
        """Control of the lab: a Hypervisor's methods."""
        self.cgroup = f"{_CGROUP}-{os.getpid()}-{id(self)}"
        """Name of the cgroups of its machines."""

    def __enter__(self) -> "Machines":
        self.folder.mkdir(parents=True)
        remove_stale_cgroups()
        here = str(Path(__file__).parents[1])
        namespaces = ("--mount", "--net", "--pid", "--fork", "--kill-child=KILL", "--mount-proc")
        python = (sys.executable, "-m", "lab.hypervisor", str(self.folder), str(self._seed))
        with (self.folder / "lab.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["unshare", *namespaces, *python],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": here, "LAB_CGROUP": self.cgroup},
            )
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self.__exit__()
        self.env = json.loads(line)
        self.cloud.url = self.env["AWS_ENDPOINT_URL"]
        return self

    def __exit__(self, *_: object) -> None:
        # The lab's first process, not unshare: unshare exits last.
        if init := self.find_init():
            os.kill(init, signal.SIGKILL)
        self._process.communicate()
        for group in find_cgroups(self.cgroup):
            remove_cgroup(group)
        if not init:
            raise RuntimeError(f"the lab broke down:\n{(self.folder / 'lab.log').read_text()}")

    def find_init(self) -> int | None:
        """Return the first process of the lab, while it runs."""
        pid, children = self._process.pid, ""
        with suppress(OSError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return int(children.split()[0]) if children else None

    @contextmanager
    def on_network(self, where: Literal["home", "vpc"] = "home") -> Iterator[None]:
        """Run on the lab's network: at `home`, across the internet, or in the `vpc` itself."""
        namespace_path = f"root/run/netns/{where}" if where == "home" else "ns/net"
        libc = ctypes.CDLL(None, use_errno=True)
        previous = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        target = os.open(f"/proc/{self.find_init()}/{namespace_path}", os.O_RDONLY)
        try:
            enter_namespace(libc, target)
            yield
        finally:
            enter_namespace(libc, previous)
            os.close(target)
            os.close(previous)


def remove_stale_cgroups() -> None:
    """Remove the empty cgroups of labs whose process was killed: nothing else of a lab can remain."""
    for parent in find_cgroups("."):
        for group in parent.glob(f"{_CGROUP}-*"):
            if not Path("/proc", group.name.split("-")[2]).exists():
                remove_cgroup(group)


def enter_namespace(libc: ctypes.CDLL, namespace: int) -> None:
    """Move this thread to the network namespace behind a file descriptor."""
    if libc.setns(namespace, _NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "setns")
