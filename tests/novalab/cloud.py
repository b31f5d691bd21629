"""OpenStack cloud for a test: `with serve() as cloud:`."""

import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from novalab.install import python

USER, PASSWORD = "dask", "correct horse"
START_TIMEOUT = 600.0  # seconds; it takes 8 on an idle machine


class Cloud:
    """Running cloud, as a test sees and controls it."""

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def env(self) -> dict[str, str]:
        """Environment variables with credentials, for `env:NAME`."""
        return {"OS_USERNAME": USER, "OS_PASSWORD": PASSWORD}

    @property
    def settings(self) -> dict[str, Any]:
        """`[provider]` table of a spec."""
        return {
            "driver": "openstack",
            "key": "env:OS_USERNAME",
            "secret": "env:OS_PASSWORD",
            "options": {
                "ex_force_auth_url": f"{self.url}/identity",
                "ex_tenant_name": "research",
                "ex_force_service_region": "RegionOne",
            },
            "create": {"networks": ["private"]},
        }

    def fault(self, method: str, path: str, **fields: Any) -> None:
        """Inject a fault in calls whose path ends so: `status`, `html`, `lost` ("before" or
        "after" it is carried out), `delay`; from the `at`th on, for `times` calls."""
        self._control("fault", method=method, path=path, **fields)

    def fault_any(self, method: str, prefix: str, **fields: Any) -> None:
        """Inject a fault in calls whose path begins so."""
        self._control("fault", method=method, prefix=prefix, **fields)

    def clear(self) -> None:
        """Remove all faults, and clear the record of calls."""
        self._control("clear")

    def expire(self) -> None:
        """Expire every session."""
        self._control("expire")

    def quota(self, instances: int, counts: str = "at once") -> None:
        """Set the project's quota of servers; -1 is unlimited, the default is 10.

        With `counts="late"`, Nova's default, only servers that are built count: Nova accepts too many
        at a time, and the last ones fail.
        """
        self._control("quota", instances=instances, counts=counts)

    def calls(self, method: str, path: str) -> int:
        """Return the number of calls whose path ends so."""
        return sum(m == method and p.endswith(path) for m, p in self._control("log"))

    def bodies(self, method: str, path: str) -> list[str]:
        """Return the bodies of those calls."""
        found: list[str] = self._control("bodies", method=method, path=path)
        return found

    def groups(self) -> list[dict[str, Any]]:
        """Return Neutron's security groups."""
        found: list[dict[str, Any]] = self._control("groups")
        return found

    def servers(self) -> list[dict[str, Any]]:
        """Return the servers that really exist."""
        found: list[dict[str, Any]] = self._control("servers")
        return found

    def remove_all(self) -> None:
        """Delete every server."""
        while self.wait_until_idle():  # also servers that a killed client has requested
            self._control("remove_all")

    def log_text(self) -> str:
        """Return the end of Nova's own log."""
        return str(self._control("log_text"))

    def spec(self, workers: int, more: str = "", **provider: str) -> str:
        """Return a spec of a cluster on this cloud, with lines for the group of workers."""
        options = json.dumps(self.settings["options"]).replace('": ', '" = ')
        lines = "".join(f"{key} = {value}\n" for key, value in provider.items())
        return f"""\
[cluster]
name = "genomics"
provider = "libcloud"

[provider]
driver = "openstack"
key = "env:OS_USERNAME"
secret = "env:OS_PASSWORD"
options = {options}
create = {{ networks = ["private"] }}
{lines}
[defaults]
size = "m1.tiny"
image = "fakeimage7"

[workers.cpu]
count = {workers}
{more}"""

    def wait_until_idle(self) -> list[dict[str, Any]]:
        """Return the servers after all builds and deletions are done."""
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            began = time.monotonic()
            active_calls = self._control("active_calls")  # perhaps requested by a killed process
            servers = self.servers()
            changing = ("BUILD", "DELETED")
            if not active_calls and not any(
                s["status"] in changing or s["OS-EXT-STS:task_state"] for s in servers
            ):
                return servers
            time.sleep(0.05 + 3 * (time.monotonic() - began))  # leave the CPU to Nova
        raise AssertionError(f"Nova does not come to rest: {servers}")

    def _control(self, name: str, **fields: Any) -> Any:
        request = urllib.request.Request(
            f"{self.url}/_lab/{name}", json.dumps(fields).encode(), method="POST"
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)


@contextmanager
def serve() -> Iterator[Cloud]:
    """Start an empty cloud, in a process that exits with the test's."""
    server = Path(__file__).with_name("server.py")
    process = subprocess.Popen(
        [python(), server],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONWARNINGS": "ignore"},
    )
    assert process.stdin
    assert process.stdout
    assert process.stderr
    stderr_lines: list[str] = []
    reader = threading.Thread(target=lambda: stderr_lines.extend(process.stderr), daemon=True)
    reader.start()
    killer = threading.Timer(START_TIMEOUT, process.kill)
    killer.start()
    try:
        url = process.stdout.readline().strip()
        killer.cancel()
        if not url:
            process.wait()
            raise RuntimeError(f"Nova did not start:\n{''.join(stderr_lines)[-4000:]}")
        yield Cloud(url)
    finally:
        killer.cancel()
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join()
        process.stdout.close()
        process.stderr.close()


if __name__ == "__main__":  # python -m novalab.cloud, in tests/: run until interrupted
    with serve() as cloud:
        print(json.dumps({"url": cloud.url, **cloud.env}), flush=True)
        sys.stdin.read()
