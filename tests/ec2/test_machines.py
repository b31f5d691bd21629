"""End to end on the lab's real machines: the real commands, real boots, a real Dask cluster."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from lab import base
from lab.fixtures import lab  # noqa: F401
from lab.machines import Machines
from lab.seed import OWN_IMAGE

# Debian's Python differs from the tests' in the last digit.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.lab,
    pytest.mark.filterwarnings("ignore:Mismatched versions"),
]
SPEC = """\
[cluster]
name = "genomics"
provider = "ec2"
join_timeout = "3 min"

[provider]
region = "eu-west-1"

[defaults]
size = "m6i.large"
image = "IMAGE"

[workers.cpu]
count = 2
options = { nthreads = 1 }

[workers.spot]
count = 2
spot = true
options = { nthreads = 1, resources = { SPOT = 1 } }
"""


class Site:
    """A folder with a spec, in which commands are run."""

    def __init__(self, folder: Path, machines: Machines) -> None:
        self.folder, self.lab, self.cloud = folder, machines, machines.cloud
        ssm: Any = boto3.client("ssm")
        image = ssm.get_parameter(Name=OWN_IMAGE)["Parameter"]["Value"]
        self.write(SPEC.replace("IMAGE", image))

    def write(self, text: str) -> None:
        (self.folder / "planapply.toml").write_text(text)

    def edit(self, old: str, new: str) -> None:
        text = (self.folder / "planapply.toml").read_text()
        assert old in text
        self.write(text.replace(old, new))

    def run(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "planapply", *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            env={**os.environ, "HOME": str(self.folder)},
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def apply(self, *words: str, code: int = 0) -> str:
        return self.run("apply", "--auto-approve", *words, code=code)

    def vms(self) -> dict[str, str]:
        """The ids of live VMs by node."""
        nodes = json.loads(self.run("show", "--json"))["nodes"]
        live = {vm["id"] for vm in self.cloud.instances()}
        return {name: node["vm"] for name, node in nodes.items() if node["vm"] in live}

    def restore(self, names: Collection[str]) -> dict[str, str]:
        """Apply until these are there: an absence is believed once a VM is old enough to be seen."""

        def complete() -> bool:
            self.apply()
            return self.vms().keys() == set(names)

        until(complete, f"all of {names}")
        return self.vms()

    @contextmanager
    def client(self) -> Iterator[Any]:
        import planapply

        with planapply.connect(str(self.folder / "planapply.toml")) as client:
            yield client


@pytest.fixture
def site(tmp_path: Path, lab: Machines) -> Site:  # noqa: F811
    return Site(tmp_path, lab)


def until(happens: Callable[[], Any], what: str, seconds: float = 120.0) -> Any:
    """Wait for it; the limit only ends a broken test."""
    end = time.monotonic() + seconds
    while not (got := happens()):
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.2)
    return got


def joined(client: Any) -> set[str]:
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return {str(worker["name"]) for worker in workers.values()}


def gone(site: Site) -> None:
    """Nothing of the cluster is left in the cloud."""
    until(lambda: not site.cloud.machines(), "the end of the machines")
    assert site.cloud.instances() == []
    groups = boto3.client("ec2").describe_security_groups()["SecurityGroups"]
    assert {group["GroupName"] for group in groups} == {"default"}


def results_on(client: Any, worker: str) -> list[Any]:
    """Results that only one worker has, and that would be others if they were computed again."""
    return [client.submit(random.random, pure=False, workers=[worker]) for _ in range(5)]


def test_a_cluster_lives(site: Site) -> None:
    """TLS, two groups, a client elsewhere; more and fewer nodes, another option, a reboot."""
    site.apply()
    with site.client() as client:
        assert client.scheduler.address.startswith("tls://")
        assert joined(client) == {"cpu-0", "cpu-1", "spot-0", "spot-1"}
        assert client.submit(sum, client.map(pow, range(10), [2] * 10)).result(60) == 285
        kept = results_on(client, "spot-1")
        values = client.gather(kept)
        site.edit("count = 2\noptions = { nthreads = 1 }", "count = 3\noptions = { nthreads = 1 }")
        site.edit("count = 2\nspot", "count = 1\nspot")
        before = site.vms()
        site.apply()
        after = site.vms()
        assert joined(client) == {"cpu-0", "cpu-1", "cpu-2", "spot-0"}
        assert before.keys() - after.keys() == {"spot-1"}
        assert {name: after[name] for name in before if name in after}.items() <= before.items()
        assert client.gather(kept) == values  # what spot-1 held was handed over
        assert site.cloud.sh(id=after["cpu-1"], command="systemctl reboot")["code"] == 0
        until(lambda: "cpu-1" not in joined(client), "the reboot")
        until(lambda: "cpu-1" in joined(client), "the worker's return")
    assert "started" not in site.run("plan")
    assert "distributed" in site.run("logs", "cpu-0")
    site.run("destroy", "--auto-approve")
    gone(site)


def test_a_spot_vm_that_is_taken_back_loses_no_result(site: Site) -> None:
    site.apply()
    vms = site.vms()
    with site.client() as client:
        kept = results_on(client, "spot-0")
        values = client.gather(kept)
        site.cloud.reclaim(ids=[vms["spot-0"]], notice=60)
        until(lambda: vms["spot-0"] not in site.vms().values(), "its end")
        assert client.gather(kept) == values
    reasons = {vm["id"]: vm["reason"] for vm in site.cloud.instances(live=False)}
    assert reasons[vms["spot-0"]] == "Client.InstanceInitiatedShutdown"  # before it was taken


def test_a_worker_that_loses_its_scheduler_ends(site: Site) -> None:
    """One by a partition, the others when the scheduler dies."""
    site.apply()
    vms = site.vms()
    site.cloud.cut(ids=[vms["cpu-0"]])
    until(lambda: vms["cpu-0"] not in site.vms().values(), "its end", 300)
    again = site.restore(vms)
    command = "systemctl kill --signal=KILL planapply.service"
    assert site.cloud.sh(id=again["scheduler"], command=command)["code"] == 0
    until(lambda: site.cloud.instances() == [], "the end of all", 300)
    site.run("destroy", "--auto-approve")
    gone(site)


def test_an_idle_cluster_ends_with_nobody_watching(site: Site) -> None:
    site.edit('join_timeout = "3 min"', 'join_timeout = "3 min"\nidle_timeout = "20 s"')
    site.apply()
    assert len(site.cloud.instances()) == 5
    until(lambda: site.cloud.instances() == [], "the end of all")
    reasons = {vm["reason"] for vm in site.cloud.instances(live=False)}
    assert reasons == {"Client.InstanceInitiatedShutdown"}
    site.run("destroy", "--auto-approve")
    gone(site)


def test_ttl_ends_all_whatever_happens(site: Site) -> None:
    site.edit('join_timeout = "3 min"', 'join_timeout = "3 min"\nttl = "40 s"')
    site.apply()
    with site.client() as client:
        work = client.submit(time.sleep, 600)  # however busy it is
        until(lambda: site.cloud.instances() == [], "the end of all")
        del work


def test_packages_are_installed_and_setup_runs(site: Site) -> None:
    site.edit("count = 2\nspot", "count = 0\nspot")
    pins = [pin for pin in base.pins() if pin.startswith(("distributed==", "dask=="))]
    site.write(
        (site.folder / "planapply.toml").read_text()
        + f"""
[environment]
packages = {pins}
env = {{ GREETING = "it's $HOME" }}
setup = ["echo \\"$GREETING\\" >/run/greeting", "test -e /run/greeting"]
"""
    )
    site.apply()
    with site.client() as client:
        assert set(client.run(os.getenv, "GREETING").values()) == {"it's $HOME"}
        assert set(client.run(lambda: __import__("sys").prefix).values()) == {"/opt/planapply/env"}
    vm = site.vms()["cpu-1"]
    assert site.cloud.sh(id=vm, command="cat /run/greeting")["out"].strip() == "it's $HOME"
    modes = site.cloud.sh(id=vm, command="stat -c '%a %n' /etc/planapply /etc/planapply/*.pem")
    assert modes["out"].split() == [
        *("700", "/etc/planapply"),
        *("600", "/etc/planapply/tls-certificate.pem"),
        *("600", "/etc/planapply/tls-key.pem"),
    ]


def test_machines_that_do_not_join_are_named(site: Site) -> None:
    site.cloud.doom(kind="never-boots", tags={"planapply:group": "cpu"}, index=1)
    site.edit('join_timeout = "3 min"', 'join_timeout = "40 s"')
    said = site.apply(code=1)
    assert "cpu-1 did not join within 40 s" in said
    assert site.vms().keys() == {"scheduler", "cpu-0", "cpu-1", "spot-0", "spot-1"}


def test_a_node_that_can_not_start_says_why_and_costs_nothing(site: Site) -> None:
    site.write(
        (site.folder / "planapply.toml").read_text()
        + '\n[environment]\nsetup = ["test $PLANAPPLY_NODE != cpu-1"]\n'
    )
    said = site.apply(code=1)
    assert "cpu-1 ended before it joined" in said
    assert "planapply: setup command 1 of 1 failed" in said
    assert "cpu-1" not in site.vms()
