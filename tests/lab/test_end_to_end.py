"""Life of one cluster through scaling, faults, and killed commands, on the lab's real machines.

Tests that need their own lab are in tests/ec2/test_machines.py: termination by `ttl`, `idle_timeout`,
and lost schedulers, installation by uv, and nodes that cannot start.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from ec2.site import LabProject, Work, joined, wait_until

import planapply
from lab import base
from lab.fixtures import set_env
from lab.machines import Machines, find_cgroups

# Debian's Python has another micro version than the tests' Python.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.lab,
    pytest.mark.filterwarnings("ignore:Mismatched versions"),
]
BURST = """
[workers.burst]
min = 0
max = 3
options = { nthreads = 1 }
"""
NODES = {"scheduler", "cpu-0", "cpu-1", "spot-0", "spot-1"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    if reason := base.unavailable_reason():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("end-to-end")
    with pytest.MonkeyPatch.context() as patch, Machines(folder / "lab") as lab, lab.on_network():
        set_env(lab.env, patch)
        yield lab


@pytest.fixture(scope="module")
def shared_project(lab: Machines) -> Iterator[LabProject]:
    """Cluster that most tests share; each leaves it so that an apply can fix it."""
    project = LabProject(lab.folder.parent, lab)
    project.write((project.folder / "planapply.toml").read_text() + BURST)
    project.apply()
    yield project
    project.run("destroy", "--auto-approve")


@pytest.fixture
def project(shared_project: LabProject) -> LabProject:
    """Shared cluster with the nodes of its spec, all of them joined."""
    shared_project.restore(NODES)
    with shared_project.client() as client:
        wait_until(lambda: joined(client) == NODES - {"scheduler"}, "all workers")
    return shared_project


def test_elastic_group_scales_without_losing_results(project: LabProject) -> None:
    with (
        planapply.Cluster.from_spec(project.folder / "planapply.toml") as cluster,
        cluster.get_client() as client,
    ):
        cluster.scale(2, group="burst")
        workers = wait_until(lambda: burst(client, 2), "two more nodes")
        work = Work(client, workers)
        launched = project.vms()
        cluster.scale(1, group="burst")
        assert wait_until(lambda: burst(client, 1), "one node less") == workers[:1]
        work.check()
        cluster.scale(0, group="burst")
        wait_until(lambda: burst(client, 0) is not None, "no such nodes")
        wait_until(lambda: project.vms().keys() == NODES, "the end of their VMs")
        work.check()
    assert {name for name in launched if name.startswith("burst")} == set(workers)
    assert "No changes" in project.run("plan")


def burst(client: Any, count: int) -> list[str] | None:
    """Return the joined nodes of that group, if there are so many."""
    workers = sorted(name for name in joined(client) if name.startswith("burst"))
    return workers if len(workers) == count else None


def test_results_of_a_reclaimed_spot_vm_are_moved_in_time(project: LabProject) -> None:
    vm = project.vms()["spot-1"]
    with project.client() as client:
        work = Work(client, ["spot-1"])
        project.cloud.reclaim(ids=[vm], notice=600)
        wait_until(lambda: vm not in project.cloud.machines(), "its termination")
        work.check()
    (reason,) = [v["reason"] for v in project.cloud.instances(live=False) if v["id"] == vm]
    assert reason == "Client.InstanceInitiatedShutdown"  # before EC2 reclaimed it
    assert "EC2 will interrupt this spot VM" in project.cloud.console(id=vm)


def test_temporary_partition_loses_nothing(project: LabProject) -> None:
    vms = project.vms()

    def slow() -> str:
        from distributed import get_worker

        get_worker().log_event("slow", "began")
        while not os.path.exists("/run/go"):
            time.sleep(0.1)
        return "done"

    with project.client() as client:
        work = Work(client, ["cpu-0"])
        future = client.submit(slow, workers=["cpu-0"])
        wait_until(lambda: client.get_events("slow"), "the task's beginning")
        project.cloud.disconnect(ids=[vms["cpu-0"]])
        assert project.cloud.sh(id=vms["cpu-0"], command="touch /run/go")["code"] == 0
        time.sleep(5)  # the partition, during which it terminates
        assert not future.done()
        project.cloud.disconnect(ids=[vms["cpu-0"]], cut=False)
        assert future.result(60) == "done"
        assert len(client.get_events("slow")) == 1
        work.check()
        assert joined(client) == NODES - {"scheduler"}
    assert project.vms() == vms


def test_machine_that_never_boots_is_reported_and_replaced(project: LabProject) -> None:
    more = ("--set", "workers.cpu.count=4")
    project.cloud.boot_fault(kind="never-boots", tags={"planapply:group": "cpu"}, index=0)
    project.apply(*more, "--no-wait")
    wait_until(lambda: project.joined() == NODES | {"cpu-3"}, "all others")
    output = project.apply(*more, "--set", "cluster.join_timeout='5 s'", code=1)
    assert "cpu-2 did not join within 5 s" in output
    assert "cpu-3 did not join" not in output
    assert "--replace cpu-2" in output
    assert project.run("logs", "cpu-2") == "cpu-2 has printed nothing yet.\n"
    dead = project.vms()["cpu-2"]
    with project.client() as client:
        assert joined(client) == NODES - {"scheduler"} | {"cpu-3"}
        assert client.submit(pow, 2, 3, workers=["cpu-3"]).result(60) == 8
        assert "planapply: this is cpu-3" in project.run("logs", "cpu-3")
        project.apply(*more, "--replace", "cpu-2")
        assert "cpu-2" in joined(client)
    assert project.vms()["cpu-2"] != dead
    wait_until(lambda: dead not in project.cloud.machines(), "the end of what never booted")


def test_killed_apply_leaves_no_orphan(project: LabProject) -> None:
    """Apply is killed once its request has reached EC2, with or without the response."""
    before = launches(project)
    more = ("--auto-approve", "--set", "workers.cpu.count=3", "--set", "workers.spot.count=3")
    with subprocess.Popen(
        [sys.executable, "-m", "planapply", "apply", *more],
        cwd=project.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        wait_until(lambda: launches(project) > before, "its first launch")
        process.send_signal(signal.SIGKILL)
    project.run("apply", *more)
    live = {vm["id"] for vm in project.cloud.instances()}
    assert project.vms().keys() == NODES | {"cpu-2", "spot-2"}
    assert set(project.vms().values()) == live
    with project.client() as client:
        wait_until(lambda: joined(client) == {*project.vms()} - {"scheduler"}, "all workers")


def launches(project: LabProject) -> int:
    return int(project.cloud.counts()["actions"].get("RunInstances", 0))


def test_destroy_leaves_nothing(lab: Machines, tmp_path: Path) -> None:
    project = LabProject(tmp_path, lab)
    project.edit('name = "genomics"', 'name = "brief"')
    project.edit("count = 2\noptions", "count = 1\noptions")
    project.edit("count = 2\nspot", "count = 0\nspot")
    ours: Callable[[], set[str]] = lambda: {  # noqa: E731
        vm["id"]
        for vm in lab.cloud.instances(live=False)
        if vm["tags"].get("planapply:cluster") == "brief"
    }
    project.apply()
    ids = ours()
    assert len(ids) == 2
    for trace in (machines, namespaces, mounts, processes, folders):
        assert trace(lab, ids) == ids, trace.__name__
    assert groups("brief")
    project.run("destroy", "--auto-approve")
    assert [vm for vm in lab.cloud.instances() if vm["id"] in ids] == []
    assert groups("brief") == []
    for trace in (machines, namespaces, mounts, processes, folders):
        wait_until(lambda trace=trace: not trace(lab, ids), f"no {trace.__name__}")
    assert ours() == ids


def groups(cluster: str) -> list[str]:
    found = boto3.client("ec2").describe_security_groups()["SecurityGroups"]
    return [group["GroupName"] for group in found if cluster in group["GroupName"]]


def machines(lab: Machines, ids: set[str]) -> set[str]:
    return ids.intersection(lab.cloud.machines())


def namespaces(lab: Machines, ids: set[str]) -> set[str]:
    return ids.intersection(os.listdir(f"/proc/{lab.find_init()}/root/run/netns"))


def mounts(lab: Machines, ids: set[str]) -> set[str]:
    text = Path(f"/proc/{lab.find_init()}/mountinfo").read_text()
    return {vm for vm in ids if vm in text}


def processes(lab: Machines, ids: set[str]) -> set[str]:
    """Return the VMs with a process in their cgroup, or with a running supervisor."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "cgroup").read_text() + (folder / "cmdline").read_text()
        except OSError:
            continue  # it has ended
        found |= {vm for vm in ids if vm in text}
    return found


def folders(lab: Machines, ids: set[str]) -> set[str]:
    return {vm for vm in ids for group in find_cgroups(lab.cgroup) if (group / vm).exists()}
