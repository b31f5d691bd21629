"""The clouds of these tests, observed directly instead of through planapply.

To test another provider in the same way, add an entry to `ENVIRONMENTS`.
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
    """A WSGI app that kills its client before or after it carries out one of the client's calls."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app, self._lock = app, threading.Lock()
        self.points, self.die_at, self.pid = 0, -1, 0

    def arm(self, pid: int, die_at: int) -> None:
        """Count points from now on, and kill the process `pid` at point `die_at` (-1: never)."""
        with self._lock:
            self.points, self.die_at, self.pid = 0, die_at, pid

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        """Answer a request."""
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
    """An account of a cloud, for one cluster."""

    name: str
    spec: str
    """The rest of the spec's table `[cluster]`, and other tables."""
    options: str
    """The workers' options except `nthreads`, as TOML."""
    env: Mapping[str, str]
    """The environment of every command."""
    live_vms: Callable[[str], list[VM]]
    """Returns every VM of a lineage that exists and is not shutting down."""
    leftovers: Callable[[str], list[str]]
    """Returns what exists for a lineage in addition to VMs."""
    client_killer: ClientKiller | None = None
    """The app that carries the cloud's answers, if the cloud is a local server."""
    has_reachable_schedulers: bool = True
    """Returns whether a process listens at a scheduler's address."""


def command_env(home: Path, **more: str) -> dict[str, str]:
    """Return the environment of a command, with an empty home folder."""
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("DASK_", "PLANAPPLY_", "XDG_"))
    }
    paths = [str(TESTS), *(path for path in sys.path if path)]
    return {**kept, "HOME": str(home), "PYTHONPATH": os.pathsep.join(paths), **more}


@contextmanager
def local_environment(folder: Path) -> Iterator[Environment]:
    """Yield an environment with processes of this machine, all of which are stopped at the end."""
    from planapply_local import PLUGIN, LocalSettings
    from planapply_local.supervisor import find_processes, kill

    vm_folder = folder / "local"
    provider = PLUGIN.connect(LocalSettings(folder=str(vm_folder)))

    def own_processes() -> list[str]:
        # They are found by their home folder, which differs between environments.
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
    """Yield an environment in the lab's EC2: VMs are only entries in a table; nothing connects to them."""
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
        env = command_env(folder / "home", **cloud.env, CRASH_IMPORTS="crash.short_delays")
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
    """Yield an environment with the provider `ec2`."""
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
    """Yield an environment with the same cloud through Libcloud: without tokens, with a firewall."""
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
