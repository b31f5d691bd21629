"""`planapply watch` as a process of its own, while spot VMs are reclaimed, die, and are cut off.

All tests share one cluster, with two spot workers, and one watch.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import order
import pytest
from ec2.site import LabProject, Work, joined, wait_until

from lab import base
from lab.fixtures import set_env
from lab.machines import Machines
from planapply.bootstrap import NOTICE_TOPIC

# Debian's Python has another micro version than the tests' Python.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.lab,
    pytest.mark.filterwarnings("ignore:Mismatched versions"),
]
INTERVAL = 1.0
WATCHERS = 54321
"""The group of the watch's process, by which the network can tell it from the test."""
JOIN_TIMEOUT = 5.0
"""Of the test that cuts the watch off: a node launched then must look late, if anything asks."""


class WatchProcess:
    """A running `planapply watch`, and its events."""

    def __init__(self, project: LabProject) -> None:
        self.project, self.path = project, project.folder / "watch.jsonl"
        arguments = ("watch", "--json", "--interval", f"{INTERVAL:g}s")
        with self.path.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "planapply", *arguments],
                cwd=project.folder,
                env={**os.environ, "HOME": str(project.folder)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                group=WATCHERS,
            )

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 143, self.path.read_text()

    def rounds(self) -> list[dict[str, Any]]:
        """Return the rounds so far."""
        assert self.process.poll() is None, self.path.read_text()
        lines = self.path.read_text().splitlines(keepends=True)
        events = [json.loads(line) for line in lines if line.endswith("\n")]
        return [event["data"] for event in events if event["event"] == "round"]

    def wait_for(self, key: str, name: str, since: int) -> dict[str, Any]:
        """Return the first round from the number `since` on in which this happened to that node."""

        def find() -> dict[str, Any] | None:
            return next((r for r in self.rounds()[since:] if name in r.get(key, ())), None)

        found = wait_until(find, f"{key} {name}")
        assert isinstance(found, dict)
        return found

    def wait_for_rounds(self, count: int) -> list[dict[str, Any]]:
        """Wait for that many more rounds, all of which began after this call; return them."""
        begun = len(self.rounds()) + 1
        wait_until(lambda: len(self.rounds()) >= begun + count, f"{count} rounds")
        return self.rounds()[begun : begun + count]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabProject]:
    """Cluster with one worker, as it was launched."""
    if reason := base.unavailable_reason():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("watch")
    with pytest.MonkeyPatch.context() as patch, Machines(folder / "lab") as lab, lab.on_network():
        set_env(lab.env, patch)
        project = LabProject(folder, lab)
        start, _, spot = (folder / "planapply.toml").read_text().partition("[workers.cpu]")
        project.write(start + spot[spot.index("[workers.spot]") :])
        project.apply("--set", "workers.spot.count=1")
        yield project
        project.run("destroy", "--auto-approve")


@pytest.fixture(scope="module")
def apply_seconds(project: LabProject) -> float:
    """How long an apply of one more worker took."""
    start = time.monotonic()
    project.apply()
    return time.monotonic() - start


@pytest.fixture(scope="module")
def watch(project: LabProject, apply_seconds: float) -> Iterator[WatchProcess]:
    """The watch; each test leaves it with nothing to do."""
    watch = WatchProcess(project)
    yield watch
    watch.stop()


@pytest.mark.parametrize("notice", order.few(["rebalance", "interruption"], 1))
def test_node_under_notice_is_replaced_elsewhere_without_losing_results(
    project: LabProject, watch: WatchProcess, notice: str
) -> None:
    before, since = project.vms(), len(watch.rounds())
    with project.client() as client:
        work = Work(client, ["spot-1"])
        if notice == "rebalance":
            project.cloud.recommend_rebalance(ids=[before["spot-1"]])
        else:
            project.cloud.reclaim(ids=[before["spot-1"]], notice=120)
        watch.wait_for("launched", "spot-1", since)
        watch.wait_for("joined", "spot-1", since)
        work.check()
        assert joined(client) == {"spot-0", "spot-1"}
    after = project.vms()
    assert {name for name in after if after[name] != before[name]} == {"spot-1"}
    vms = {vm["id"]: vm for vm in project.cloud.instances(live=False)}
    old, new = vms[before["spot-1"]], vms[after["spot-1"]]
    assert (old["zone"], old["size"]) != (new["zone"], new["size"])
    assert new["market"] == "spot"
    if notice == "rebalance":  # the node itself only reports that
        assert old["reason"] == "Client.UserInitiatedShutdown"


@pytest.mark.soak
def test_results_survive_if_all_workers_are_under_notice(
    project: LabProject, watch: WatchProcess
) -> None:
    """One leaves when the successor of the other can take its results."""
    before, since = project.vms(), len(watch.rounds())
    with project.client() as client:
        work = Work(client, ["spot-0", "spot-1"])
        under_notice = {before["spot-0"], before["spot-1"]}
        with watch_cut_off(project):  # so that it learns of both at the same time
            project.cloud.recommend_rebalance(ids=[*under_notice])
            wait_until(lambda: under_notice <= reported(client), "both reports")
        for name in ("spot-0", "spot-1"):
            watch.wait_for("joined", name, since)
        work.check()
    after = project.vms()
    assert {name for name in after if after[name] != before[name]} == {"spot-0", "spot-1"}


def test_machine_that_dies_is_launched_again(
    project: LabProject, watch: WatchProcess, apply_seconds: float
) -> None:
    before, since = project.vms(), len(watch.rounds())
    with project.client() as client:
        old = address(client, "spot-0")
        start = time.monotonic()
        project.cloud.break_host(ids=[before["spot-0"]])
        wait_until(lambda: address(client, "spot-0") not in (old, None), "its successor", pause=0.1)
        seconds = time.monotonic() - start
    watch.wait_for("joined", "spot-0", since)
    lost = [loss for one in watch.rounds()[since:] for loss in one.get("lost", ())]
    assert {loss["vm"] for loss in lost} == {before["spot-0"]}
    after = project.vms()
    assert {name for name in after if after[name] != before[name]} == {"spot-0"}
    target = INTERVAL + 1.5 * apply_seconds
    print(
        f"from the end of a VM to its successor's join: {seconds:.1f} s; "
        f"one interval + 1.5 times an apply of one node: {target:.1f} s"
    )


def address(client: Any, name: str) -> str | None:
    """Return the address of a worker, if it has joined."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return next((key for key, worker in workers.items() if worker["name"] == name), None)


@pytest.mark.parametrize("seconds", order.few([6.0, 19.0], 1))
def test_worker_that_is_cut_off_for_a_while_stays(
    project: LabProject, watch: WatchProcess, seconds: float
) -> None:
    before, since = project.vms(), len(watch.rounds())
    with project.client() as client:
        work = Work(client, ["spot-1"])
        project.cloud.disconnect(ids=[before["spot-1"]])
        time.sleep(seconds)  # the partition
        project.cloud.disconnect(ids=[before["spot-1"]], cut=False)
        work.check()
        assert client.submit(pow, 2, 3, workers=["spot-1"]).result(60) == 8
        assert joined(client) == {"spot-0", "spot-1"}
    watch.wait_for_rounds(1)
    assert {one["outcome"] for one in watch.rounds()[since:]} == {"unchanged"}
    assert project.vms() == before


def reported(client: Any) -> set[str]:
    """Return the VMs about which the scheduler has a notice."""
    return {notice["vm"] for _, notice in client.get_events(NOTICE_TOPIC)}


@contextmanager
def watch_cut_off(project: LabProject) -> Iterator[None]:
    """Drop what the watch sends to the scheduler; the test itself, and the cloud, stay connected."""
    state = json.loads(project.run("show", "--json"))
    address = state["nodes"]["scheduler"]["public_address"]
    rule = f"meta skgid {WATCHERS} ip daddr {address} drop"
    chain = f"chain out {{\n type filter hook output priority 0;\n {rule}\n }}"
    nft(f"table ip cut {{\n {chain}\n}}\n")
    try:
        yield
    finally:
        nft("delete table ip cut\n")


def nft(text: str) -> None:
    """Change the firewall of the test's own network namespace."""
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)


@pytest.mark.parametrize("seconds", order.few([JOIN_TIMEOUT, 60.0], 0))
def test_watch_that_is_cut_off_replaces_nothing_that_runs(
    project: LabProject, watch: WatchProcess, seconds: float
) -> None:
    """Meanwhile, a VM dies, and its successor joins; only the watch cannot see that."""
    project.apply("--set", f"cluster.join_timeout='{JOIN_TIMEOUT:g} s'")
    before, since = project.vms(), len(watch.rounds())
    with project.client() as client:
        with watch_cut_off(project):
            old = address(client, "spot-0")
            project.cloud.break_host(ids=[before["spot-0"]])
            watch.wait_for("launched", "spot-0", since)
            launched_at = time.monotonic()
            wait_until(lambda: address(client, "spot-0") not in (old, None), "its successor")
            # Until the new node looks late.
            time.sleep(max(0.0, launched_at + seconds - time.monotonic()))
            vms = project.vms()
            for one in watch.wait_for_rounds(1):
                assert [d["code"] for d in one["diagnostics"]] == ["scheduler_unreachable"]
        watch.wait_for("joined", "spot-0", since)
        assert joined(client) == {"spot-0", "spot-1"}
    assert project.vms() == vms
    launched = [name for one in watch.rounds()[since:] for name in one.get("launched", ())]
    assert launched == ["spot-0"]
    project.apply()
