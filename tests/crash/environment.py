"""Where the clusters of these tests are: a cloud as it really is, apart from what planapply thinks.

A provider is held to the same stories by one more entry of `ENVIRONMENTS`.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planapply.model.node import TAG_LINEAGE, VM

TESTS = Path(__file__).parents[1]


class ClientKiller:
    """Kills the client of a WSGI app before or after one of its calls is carried out."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app, self._lock = app, threading.Lock()
        self.points, self.die_at, self.pid = 0, -1, 0

    def arm(self, pid: int, die_at: int) -> None:
        """From now on count; the process `pid` dies at point `die_at` (-1: it lives)."""
        with self._lock:
            self.points, self.die_at, self.pid = 0, die_at, pid

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        """WSGI."""
        if self._count_point():
            return self._no_answer(start_response)
        answer = self._app(environ, start_response)
        self._count_point()
        return answer

    def _no_answer(self, start_response: Callable[..., Any]) -> list[bytes]:
        start_response("503 the client is dead", [])
        return []

    def _count_point(self) -> bool:
        with self._lock:
            self.points += 1
            if self.points - 1 != self.die_at:
                return False
            os.kill(self.pid, signal.SIGKILL)
            return True


@dataclass
class Environment:
    """One account of one cloud, for one cluster."""

    name: str
    spec: str
    """The rest of the spec's `[cluster]`, and other tables."""
    options: str
    """The workers' options but `nthreads`, as TOML."""
    env: Mapping[str, str]
    """Of every command."""
    live_vms: Callable[[str], list[VM]]
    """Every VM of a lineage that exists and has not begun to end."""
    leftovers: Callable[[str], list[str]]
    """What is left of it beside VMs."""
    client_killer: ClientKiller | None = None
    """Where the cloud's answers pass, if it is a server of ours."""
    has_reachable_schedulers: bool = True
    """Whether anything listens at a scheduler's address."""


def command_env(home: Path, **more: str) -> dict[str, str]:
    """A command's, with an empty home."""
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("DASK_", "PLANAPPLY_", "XDG_"))
    }
    paths = [str(TESTS), *(path for path in sys.path if path)]
    return {**kept, "HOME": str(home), "PYTHONPATH": os.pathsep.join(paths), **more}


@contextmanager
def local_environment(folder: Path) -> Iterator[Environment]:
    """Processes of this machine; none of them outlives this."""
    from planapply_local import PLUGIN, LocalSettings
    from planapply_local.supervisor import find_processes, kill

    vm_folder = folder / "local"
    provider = PLUGIN.connect(LocalSettings(folder=str(vm_folder)))

    def own_processes() -> list[str]:
        # By the home that they were given: no two grounds have the same.
        home = str(folder / "home")
        return [
            id
            for id, found in find_processes().items()
            if any(e.get("HOME") == home for _, e in found)
        ]

    def live_vms(lineage: str) -> list[VM]:
        return [vm for vm in provider.find({TAG_LINEAGE: lineage}) if vm.status != "stopping"]

    try:
        yield Environment(
            "local",
            f'provider = "local"\n[provider]\nfolder = "{vm_folder}"\n',
            'memory_limit = "500 MB"',
            command_env(folder / "home"),
            live_vms,
            lambda lineage: [*own_processes(), *(path.name for path in vm_folder.glob("vm-*"))],
        )
    finally:
        for id in own_processes():
            kill(id)


@contextmanager
def ec2_environment(folder: Path, client: str = "ec2") -> Iterator[Environment]:
    """EC2 as the lab plays it: its VMs are entries in a table, and nobody may talk to them."""
    from lab.ec2 import backend
    from lab.honest import Cloud, listen

    cloud = Cloud()
    client_killer = ClientKiller(cloud)

    def live_vms(lineage: str) -> list[VM]:
        return [
            VM(id=found["id"], tags=found["tags"], index=found["index"])
            for found in cloud.instances()
            if found["tags"].get(TAG_LINEAGE) == lineage
        ]

    def leftovers(lineage: str) -> list[str]:
        by_network = backend(cloud.settings.region).groups.values()
        groups = [group for groups in by_network for group in groups.values()]
        return [group.id for group in groups if lineage in str(group.get_tags())]

    with listen(client_killer, "127.0.0.1", 0) as port:
        cloud.url = f"http://127.0.0.1:{port}"
        env = command_env(folder / "home", **cloud.env, CRASH_IMPORTS="crash.quick")
        yield Environment(
            client,
            SPECS[client](port),
            'memory_limit = "500 MB"',
            env,
            live_vms,
            leftovers,
            client_killer,
            has_reachable_schedulers=False,
        )


def ec2_spec(port: int) -> str:
    """The provider `ec2`, which finds the cloud in its environment."""
    return """\
provider = "ec2"
[provider]
region = "eu-west-1"
[defaults]
size = "m6i.large"
[environment]
packages = ["dask"]
"""


def libcloud_spec(port: int) -> str:
    """The same cloud without tokens; with a firewall."""
    from lab.ec2 import backend

    image = next(iter(backend("eu-west-1").amis))
    return f"""\
provider = "libcloud"
[provider]
driver = "ec2"
key = "env:AWS_ACCESS_KEY_ID"
secret = "env:AWS_SECRET_ACCESS_KEY"
options = {{ region = "eu-west-1", host = "127.0.0.1", port = {port}, secure = false }}
allow_from = ["203.0.113.0/24"]
[defaults]
size = "m7i.large"
image = "{image}"
"""


SPECS = {"ec2": ec2_spec, "libcloud": libcloud_spec}
ENVIRONMENTS: dict[str, Callable[[Path], AbstractContextManager[Environment]]] = {
    "local": local_environment,
    "ec2": ec2_environment,
    "libcloud": lambda folder: ec2_environment(folder, "libcloud"),
}
