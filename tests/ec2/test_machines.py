"""End to end on the lab's real machines: the real commands, real boots, a real Dask cluster."""

import os
import time
from pathlib import Path

import pytest
from ec2.site import Site, gone, joined, results_on, until
from lab import base
from lab.fixtures import lab  # noqa: F401
from lab.machines import Machines

# Debian's Python differs from the tests' in the last digit.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.lab,
    pytest.mark.filterwarnings("ignore:Mismatched versions"),
]


@pytest.fixture
def site(tmp_path: Path, lab: Machines) -> Site:  # noqa: F811
    return Site(tmp_path, lab)


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
        site.cloud.reclaim(ids=[vms["spot-0"]], notice=600)
        until(lambda: vms["spot-0"] not in site.vms().values(), "its end")
        assert client.gather(kept) == values
    reasons = {vm["id"]: vm["reason"] for vm in site.cloud.instances(live=False)}
    assert reasons[vms["spot-0"]] == "Client.InstanceInitiatedShutdown"  # before it was taken


def test_a_worker_that_loses_its_scheduler_ends(site: Site) -> None:
    """One by a partition, the others when the scheduler dies."""
    site.apply()
    vms = site.vms()
    site.cloud.cut(ids=[vms["cpu-0"]])
    until(lambda: vms["cpu-0"] not in site.vms().values(), "its end")
    again = site.restore(vms)
    command = "systemctl kill --signal=KILL planapply.service"
    assert site.cloud.sh(id=again["scheduler"], command=command)["code"] == 0
    until(lambda: site.cloud.instances() == [], "the end of all")
    site.run("destroy", "--auto-approve")
    gone(site)


def test_an_idle_cluster_ends_with_nobody_watching(site: Site) -> None:
    site.edit('join_timeout = "10 min"', 'join_timeout = "10 min"\nidle_timeout = "60 s"')
    site.apply()
    assert len(site.cloud.instances()) == 5
    until(lambda: site.cloud.instances() == [], "the end of all")
    reasons = {vm["reason"] for vm in site.cloud.instances(live=False)}
    assert reasons == {"Client.InstanceInitiatedShutdown"}
    site.run("destroy", "--auto-approve")
    gone(site)


def test_ttl_ends_all_whatever_happens(site: Site) -> None:
    site.edit('join_timeout = "10 min"', 'join_timeout = "10 min"\nttl = "100 s"')
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
    site.apply("--no-wait")
    until(lambda: site.joined() == {"scheduler", "cpu-0", "spot-0", "spot-1"}, "all others")
    site.edit('join_timeout = "10 min"', 'join_timeout = "5 s"')
    said = site.apply(code=1)
    assert "cpu-1 did not join within 5 s" in said
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
