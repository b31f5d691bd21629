"""One OpenStack for a test: `with serve() as cloud:`."""

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
START_TIMEOUT = 600.0  # seconds: 8 on an idle machine


class Cloud:
    """What a test knows of it, and how it rules it."""

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def env(self) -> dict[str, str]:
        """Credentials, for `env:NAME`."""
        return {"OS_USERNAME": USER, "OS_PASSWORD": PASSWORD}

    @property
    def settings(self) -> dict[str, Any]:
        """The spec's `[provider]`."""
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
        """What goes wrong with calls whose path ends so: `status`, `html`, `lost` ("before" or
        "after" it is carried out), `delay`; from the `at`th on, for `times` calls."""
        self._control("fault", method=method, path=path, **fields)

    def fault_any(self, method: str, prefix: str, **fields: Any) -> None:
        """The same for calls whose path begins so."""
        self._control("fault", method=method, prefix=prefix, **fields)

    def clear(self) -> None:
        """Take all faults away and forget the calls so far."""
        self._control("clear")

    def expire(self) -> None:
        """End every session."""
        self._control("expire")

    def quota(self, instances: int, counts: str = "at once") -> None:
        """How many servers the project may have; -1 is any number. At first it is 10.

        With `counts="late"`, as Nova does by default, those are counted that are built already: it
        accepts too many at a time, and lets the last ones fail.
        """
        self._control("quota", instances=instances, counts=counts)

    def calls(self, method: str, path: str) -> int:
        """How many of them came whose path ends so."""
        return sum(m == method and p.endswith(path) for m, p in self._control("log"))

    def bodies(self, method: str, path: str) -> list[str]:
        """What was sent with those calls."""
        found: list[str] = self._control("bodies", method=method, path=path)
        return found

    def groups(self) -> list[dict[str, Any]]:
        """Neutron's security groups."""
        found: list[dict[str, Any]] = self._control("groups")
        return found

    def servers(self) -> list[dict[str, Any]]:
        """What really exists."""
        found: list[dict[str, Any]] = self._control("servers")
        return found

    def remove_all(self) -> None:
        """End every server, whoever has made it."""
        while self.wait_until_idle():  # also what an asker who was killed has asked for
            self._control("remove_all")

    def log_text(self) -> str:
        """The last of Nova's own log, for whoever wants to know why."""
        return str(self._control("log_text"))

    def spec(self, workers: int, more: str = "", **provider: str) -> str:
        """A spec for a cluster on it, with lines for the group of workers."""
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
        """The same, once nothing is being built or deleted any more."""
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            began = time.monotonic()
            active_calls = self._control("active_calls")  # by one who was killed, maybe
            servers = self.servers()
            changing = ("BUILD", "DELETED")
            if not active_calls and not any(
                s["status"] in changing or s["OS-EXT-STS:task_state"] for s in servers
            ):
                return servers
            time.sleep(0.05 + 3 * (time.monotonic() - began))  # Nova needs the time for itself
        raise AssertionError(f"Nova does not come to rest: {servers}")

    def _control(self, name: str, **fields: Any) -> Any:
        request = urllib.request.Request(
            f"{self.url}/_lab/{name}", json.dumps(fields).encode(), method="POST"
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)


@contextmanager
def serve() -> Iterator[Cloud]:
    """An empty one, in a process that ends with the test's."""
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


if __name__ == "__main__":  # python -m novalab.cloud, in tests/: until interrupted
    with serve() as cloud:
        print(json.dumps({"url": cloud.url, **cloud.env}), flush=True)
        sys.stdin.read()
