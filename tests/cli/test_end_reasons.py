"""Why nodes have ended, in plan and status; and VMs that have powered off, which a cloud keeps."""

import json

from cli.commands import Run
from fake_provider import FakeCloud

from planapply.model.end_reason import EndReason
from planapply.store import open_store

ELASTIC = ("--set", 'workers.cpu={min=0,max=9,size="large"}')
APPLY = ("apply", "--auto-approve", "--no-wait")


def test_reason_is_shown_then_recorded_by_the_first_change(run: Run, cloud: FakeCloud) -> None:
    assert run(*APPLY).code == 0
    for id, reason in {"i-0001": "reclaimed", "i-0002": "powered_off"}.items():
        cloud.end_vm(id)
        cloud.end_reasons[id] = EndReason(reason)
    cloud.consoles["i-0002"] = "planapply: this VM ends: ttl\n"
    assert (
        run("plan").out
        == """\
planapply will change cluster "demo" (fake, mars):

  +   cpu-0   large
        (VM i-0001 is gone: reclaimed by the cloud)
  +   cpu-1   large
        (VM i-0002 is gone: ttl)

Plan: 2 to add, 0 to change, 0 to destroy.
Cost: 1.60 USD/h -> 4.60 USD/h (list prices of 2025-03-02)
"""
    )
    status = run("status")
    assert [line for line in status.out.splitlines() if "ended" in line] == [
        "Drift: cpu-0 has ended (reclaimed by the cloud); cpu-1 has ended (ttl). See `planapply logs NODE`;"
    ]
    document = json.loads(run("status", "--json").out)
    ended = {node["name"]: node["ended"] for node in document["nodes"]}
    assert ended == {"scheduler": None, "cpu-0": "reclaimed", "cpu-1": "ttl", "cpu-2": None}
    assert _recorded() == {}  # commands that read write nothing
    assert run("apply", "--auto-approve", "--no-wait", "--target", "cpu-1").code == 0
    assert _recorded() == {"i-0001": "reclaimed", "i-0002": "ttl"}
    cloud.end_reasons.clear()  # EC2 forgets a VM after an hour
    assert "(VM i-0001 is gone: reclaimed by the cloud)" in run("plan").out
    assert run("destroy", "--auto-approve").code == 0
    assert _recorded() == {"i-0001": "reclaimed", "i-0002": "ttl"}


def _recorded() -> dict[str, str]:
    state = open_store("planapply.state.json").read()
    assert state is not None
    return {ended.vm: ended.reason.value for ended in state.ended}


def test_status_says_why_a_cluster_has_ended(run: Run, cloud: FakeCloud) -> None:
    assert run(*APPLY).code == 0
    for id in list(cloud.machines):
        cloud.end_vm(id)
        cloud.end_reasons[id] = EndReason.POWERED_OFF
    cloud.consoles["i-0000"] = "planapply: this cluster ends: idle_timeout\n"
    assert (
        run("plan", "--refresh-only").out
        == """\
planapply will update the state of cluster "demo" (fake, mars):

  scheduler         VM i-0000 is gone: idle_timeout
  cpu-[0-2]   (3)   VMs are gone: the scheduler could not be reached

No VM will be launched or terminated.
"""
    )
    assert run("apply", "--refresh-only", "--auto-approve").code == 0
    assert "Last ended: idle_timeout (noticed " in run("status").out


def test_time_until_ttl_is_shown(run: Run, cloud: FakeCloud) -> None:
    assert run(*APPLY, "--set", 'cluster.ttl="12 h"').code == 0
    document = json.loads(run("status", "--json").out)
    assert all(43_000 < node["ttl_left"] <= 43_200 for node in document["nodes"])
    assert "Time left:  " in run("status").out


def test_stopped_vms_are_removed_by_the_next_apply(run: Run, cloud: FakeCloud) -> None:
    assert run(*APPLY).code == 0
    cloud.stop_vm("i-0001")
    cloud.end_reasons["i-0001"] = EndReason.POWERED_OFF
    result = run(*APPLY)
    assert result.code == 0
    assert "(VM i-0001 is stopped: shut down from inside)" in result.out
    assert {vm.id for vm in cloud.live_vms()} == {"i-0000", "i-0002", "i-0003", "i-0004"}


def test_stopped_scheduler_is_replaced_with_its_workers(run: Run, cloud: FakeCloud) -> None:
    assert run(*APPLY).code == 0
    cloud.stop_vm("i-0000")
    assert run(*APPLY).code == 0
    assert {vm.id for vm in cloud.live_vms()} == {f"i-{i:04}" for i in range(4, 8)}


def test_elastic_group_does_without_its_stopped_nodes(run: Run, cloud: FakeCloud) -> None:
    assert run(*APPLY, *ELASTIC).code == 0
    assert run("scale", "cpu=2", "--auto-approve", "--no-wait").code == 0
    cloud.stop_vm("i-0001")
    plan = run("plan", *ELASTIC)
    assert (
        plan.out
        == """\
planapply will change cluster "demo" (fake, mars):

  -   cpu-0   large
        (VM i-0001 is stopped)

Plan: 0 to add, 0 to change, 1 to destroy.
Cost: 3.10 USD/h -> 1.60 USD/h (list prices of 2025-03-02)
Elastic: cpu will have 1 node (min 0, max 9); its size changes only through `scale` and `adapt`.
"""
    )
    # The scheduler of this cloud cannot be reached, and a stopped VM has nothing to retire.
    assert run(*APPLY, *ELASTIC).code == 0
    assert {vm.id for vm in cloud.live_vms()} == {"i-0000", "i-0002"}


def test_destroy_removes_stopped_vms(run: Run, cloud: FakeCloud) -> None:
    assert run(*APPLY).code == 0
    for id in list(cloud.machines):
        cloud.stop_vm(id)
    assert run("destroy", "--auto-approve").code == 0
    assert cloud.live_vms() == []
    assert run("status").code == 0


def test_stopped_scheduler_cannot_scale(run: Run, cloud: FakeCloud) -> None:
    assert run(*APPLY, *ELASTIC).code == 0
    cloud.stop_vm("i-0000")
    result = run("scale", "cpu=2", "--auto-approve")
    assert result.code == 1
    assert "cannot scale cluster 'demo': the VM of its scheduler has stopped" in result.err


def test_status_says_that_watch_gave_up(run: Run, cloud: FakeCloud) -> None:
    assert run(*APPLY).code == 0
    store = open_store("planapply.state.json")
    with store.lock("test"):
        state = store.read()
        assert state is not None
        state.attempts = {"cpu-1": ["i-7", "i-8", "i-9"], "cpu-2": ["i-5"]}
        store.write(state)
    assert (
        """\
`planapply watch` gave up on cpu-1: 3 VMs in a row did not join, or were lost soon after. Find the
cause with `planapply logs cpu-1`. The next `planapply apply` tries again.
"""
        in run("status").out
    )
