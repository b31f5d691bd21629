"""End-to-end tests on the lab's real machines: commands, boots, and a Dask cluster."""

import os
import time
from pathlib import Path

import pytest
from distributed import fire_and_forget
from ec2.site import LabProject, check_gone, joined, submit_results, wait_until
from lab import base
from lab.fixtures import lab  # noqa: F401
from lab.machines import Machines

from planapply.bootstrap import NOTICE_TOPIC

# Debian's Python has another micro version than the tests' Python.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.lab,
    pytest.mark.filterwarnings("ignore:Mismatched versions"),
]


@pytest.fixture
def project(tmp_path: Path, lab: Machines) -> LabProject:  # noqa: F811
    return LabProject(tmp_path, lab)


def test_cluster_life_cycle(project: LabProject) -> None:
    """TLS, two groups, and a remote client; more and fewer nodes, a changed option, and a reboot."""
    project.apply()
    with project.client() as client:
        assert client.scheduler.address.startswith("tls://")
        assert joined(client) == {"cpu-0", "cpu-1", "spot-0", "spot-1"}
        assert client.submit(sum, client.map(pow, range(10), [2] * 10)).result(60) == 285
        kept = submit_results(client, "spot-1")
        values = client.gather(kept)
        project.edit(
            "count = 2\noptions = { nthreads = 1 }", "count = 3\noptions = { nthreads = 1 }"
        )
        project.edit("count = 2\nspot", "count = 1\nspot")
        before = project.vms()
        project.apply()
        after = project.vms()
        assert joined(client) == {"cpu-0", "cpu-1", "cpu-2", "spot-0"}
        assert before.keys() - after.keys() == {"spot-1"}
        assert {name: after[name] for name in before if name in after}.items() <= before.items()
        assert client.gather(kept) == values  # the results of spot-1 were moved
        assert project.cloud.sh(id=after["cpu-1"], command="systemctl reboot")["code"] == 0
        wait_until(lambda: "cpu-1" not in joined(client), "the reboot")
        wait_until(lambda: "cpu-1" in joined(client), "the worker's return")
    assert "started" not in project.run("plan")
    assert "distributed" in project.run("logs", "cpu-0")
    project.run("destroy", "--auto-approve")
    check_gone(project)


def test_reclaimed_spot_vm_loses_no_result(project: LabProject) -> None:
    project.apply()
    vms = project.vms()
    with project.client() as client:
        kept = submit_results(client, "spot-0")
        values = client.gather(kept)
        project.cloud.reclaim(ids=[vms["spot-0"]], notice=600)
        wait_until(lambda: vms["spot-0"] not in project.live(), "its termination")
        assert client.gather(kept) == values
        [(_, notice)] = client.get_events(NOTICE_TOPIC)
        assert (notice["node"], notice["vm"], notice["kind"]) == (
            "spot-0",
            vms["spot-0"],
            "interruption",
        )
    assert "spot-0 has ended (reclaimed by the cloud)" in project.run("status")
    reasons = {vm["id"]: vm["reason"] for vm in project.cloud.instances(live=False)}
    assert reasons[vms["spot-0"]] == "Client.InstanceInitiatedShutdown"  # before it was reclaimed


def test_worker_without_scheduler_terminates(project: LabProject) -> None:
    """One worker loses it by a partition, the other when the scheduler dies."""
    project.shrink(2)
    project.apply()
    vms = project.vms()
    project.cloud.disconnect(ids=[vms["cpu-0"]])
    wait_until(lambda: vms["cpu-0"] not in project.live(), "its termination")
    again = project.restore(vms)
    command = "systemctl kill --signal=KILL planapply.service"
    assert project.cloud.sh(id=again["scheduler"], command=command)["code"] == 0
    wait_until(lambda: project.cloud.instances() == [], "the end of all")
    project.run("destroy", "--auto-approve")
    check_gone(project)


def test_idle_cluster_terminates_itself(project: LabProject) -> None:
    project.shrink(1)
    project.edit_cluster('idle_timeout = "60 s"')
    project.apply()
    assert len(project.cloud.instances()) == 2
    wait_until(lambda: project.cloud.instances() == [], "the end of all")
    reasons = {vm["reason"] for vm in project.cloud.instances(live=False)}
    assert reasons == {"Client.InstanceInitiatedShutdown"}
    project.run("destroy", "--auto-approve")
    check_gone(project)


def test_ttl_terminates_all_vms(project: LabProject) -> None:
    project.shrink(1)
    project.edit_cluster('ttl = "80 s"')
    project.apply()
    with project.client() as client:
        fire_and_forget(client.submit(time.sleep, 600))  # even if the cluster is busy
    wait_until(lambda: project.cloud.instances() == [], "the end of all")
    assert "have ended (ttl)" in project.run("status")


def test_packages_are_installed_and_setup_commands_run(project: LabProject) -> None:
    project.edit("count = 2\nspot", "count = 0\nspot")
    pins = [pin for pin in base.pins() if pin.startswith(("distributed==", "dask=="))]
    project.write(
        (project.folder / "planapply.toml").read_text()
        + f"""
[environment]
packages = {pins}
env = {{ GREETING = "it's $HOME" }}
setup = ["echo \\"$GREETING\\" >/run/greeting", "test -e /run/greeting"]
"""
    )
    project.apply()
    with project.client() as client:
        assert set(client.run(os.getenv, "GREETING").values()) == {"it's $HOME"}
        assert set(client.run(lambda: __import__("sys").prefix).values()) == {"/opt/planapply/env"}
    vm = project.vms()["cpu-1"]
    assert project.cloud.sh(id=vm, command="cat /run/greeting")["out"].strip() == "it's $HOME"
    modes = project.cloud.sh(id=vm, command="stat -c '%a %n' /etc/planapply /etc/planapply/*.pem")
    assert modes["out"].split() == [
        *("700", "/etc/planapply"),
        *("600", "/etc/planapply/tls-certificate.pem"),
        *("600", "/etc/planapply/tls-key.pem"),
    ]


@pytest.mark.soak
def test_nodes_that_do_not_join_are_reported(project: LabProject) -> None:
    project.cloud.boot_fault(kind="never-boots", tags={"planapply:group": "cpu"}, index=1)
    project.apply("--no-wait")
    wait_until(lambda: project.joined() == {"scheduler", "cpu-0", "spot-0", "spot-1"}, "all others")
    project.edit('join_timeout = "10 min"', 'join_timeout = "5 s"')
    message = project.apply(code=1)
    assert "cpu-1 did not join within 5 s" in message
    assert project.vms().keys() == {"scheduler", "cpu-0", "cpu-1", "spot-0", "spot-1"}


def test_node_that_cannot_start_reports_why_and_terminates(project: LabProject) -> None:
    project.shrink(2)
    project.write(
        (project.folder / "planapply.toml").read_text()
        + '\n[environment]\nsetup = ["test $PLANAPPLY_NODE != cpu-1"]\n'
    )
    message = project.apply(code=1)
    assert "cpu-1 terminated before it joined" in message
    assert "planapply: setup command 1 of 1 failed" in message
    assert "cpu-1" not in project.vms()
