"""Tags that others set: a VM is adopted or terminated only if planapply launched it."""

import json
import os
from pathlib import Path

import pytest
from cli import fake_plugin
from cli.commands import Run
from fake_provider import FakeCloud
from inline_snapshot import snapshot

import planapply
from planapply.model.node import VM
from planapply.model.state import MAX_ISSUED, Intent, State
from planapply.store import codec, open_store

STATE = "planapply.state.json"
APPLY = ("apply", "--auto-approve", "--no-wait")
DESTROY = ("destroy", "--auto-approve")


def read() -> State:
    state = open_store(STATE).read()
    assert state is not None
    return state


def claim(cloud: FakeCloud, name: str, batch: str = "made-up") -> VM:
    """Add a VM of another user that claims to be this node of the cluster."""
    state = read()
    return cloud.spoof(
        planapply_cluster=state.cluster,
        planapply_lineage=state.lineage,
        planapply_batch=batch,
        planapply_names=name,
    )


@pytest.fixture
def applied(run: Run, cloud: FakeCloud) -> FakeCloud:
    assert run(*APPLY).code == 0
    return cloud


@pytest.mark.parametrize("name", ["cpu-3", "cpu-0", "scheduler", "../x", "cpu-[0..99999999999]"])
def test_spoofed_vm_is_listed_and_neither_adopted_nor_terminated(
    run: Run, applied: FakeCloud, name: str
) -> None:
    vm = claim(
        applied, name, batch=read().nodes["cpu-0"].batch
    )  # the token is in everybody's sight
    result = run("plan", "--detailed-exitcode")
    assert (result.code, result.err) == (
        0,
        snapshot("""\

Warning: VMs with this cluster's tags that planapply did not launch: i-0004
  Another user has set their tags, or the state has lost them. They are not adopted. To terminate
  them, pass --terminate-unknown to `planapply apply` or `planapply destroy`.
"""),
    )
    assert json.loads(run("status", "--json").out)["unknown_vms"] == [vm.id]
    assert run(*APPLY, "--set", "workers.cpu.count=4").code == 0
    assert vm.id not in {record.vm for record in read().nodes.values()}
    result = run(*DESTROY)
    assert (result.code, result.err[result.err.index("Error") :]) == (
        1,
        snapshot("""\
Error: left VMs with the tags of cluster 'demo' that planapply did not launch: i-0004
  Find out who launched them, and remove their tags or terminate them; or run
  `planapply destroy --terminate-unknown`.
"""),
    )
    assert [left.id for left in applied.live_vms()] == [vm.id]
    finished = json.loads(run(*DESTROY, "--json").out.splitlines()[-1])
    assert vm.id in json.dumps(finished)
    assert run(*DESTROY, "--terminate-unknown").code == 0
    assert applied.live_vms() == []


def test_without_the_clouds_record_an_unknown_batch_is_not_ours(run: Run, cloud: FakeCloud) -> None:
    cloud.keeps_token = False
    assert run(*APPLY).code == 0
    vm = claim(cloud, "cpu-3")
    assert run(*APPLY, "--set", "workers.cpu.count=4").code == 0
    assert read().nodes["cpu-3"].vm != vm.id
    assert run(*APPLY, "--set", "workers.cpu.count=4", "--terminate-unknown").code == 0
    assert vm.id not in {left.id for left in cloud.live_vms()}


def test_destroy_in_python_reports_what_it_left(run: Run, applied: FakeCloud) -> None:
    vm = claim(applied, "cpu-3")
    with pytest.raises(planapply.ApplyIncomplete) as raised:
        planapply.destroy(progress=False)
    assert str(raised.value) == (
        f"left VMs with the tags of cluster 'demo' that planapply did not launch: {vm.id}\n"
        "Find out who launched them, and remove their tags or terminate them; or run "
        "`planapply destroy --terminate-unknown`."
    )
    report = raised.value.report
    assert (report.added, report.changed, report.destroyed) == (0, 0, 4)
    assert str(report).startswith("Destroy incomplete: 4 destroyed")
    assert planapply.destroy(terminate_unknown=True, progress=False).destroyed == 1
    assert applied.live_vms() == []


@pytest.mark.parametrize("more", [("--target", "cpu"), ("--no-refresh",), ("--refresh-only",)])
def test_terminate_unknown_needs_the_whole_cluster(
    run: Run, applied: FakeCloud, more: tuple[str, ...]
) -> None:
    result = run(*APPLY, "--terminate-unknown", *more)
    assert result.code == 1
    assert result.err.startswith("Error: cannot combine --terminate-unknown with --target,")


def test_state_of_an_older_version_has_no_tokens_but_those_of_its_nodes(
    run: Run, applied: FakeCloud
) -> None:
    document = json.loads(Path(STATE).read_text())
    del document["issued"], document["origin"]
    Path(STATE).write_text(json.dumps(document))
    assert run("plan").out.startswith("No changes.")
    assert run("state", "rm", "cpu").code == 0
    assert run("plan").out.startswith("No changes.")  # adopted again: `state rm` keeps the tokens
    assert run(*APPLY).code == 0
    assert run(*DESTROY).code == 0
    assert applied.live_vms() == []


def test_tokens_are_bounded_and_those_in_use_are_always_known() -> None:
    state = State(lineage="l", cluster="c", provider="p")
    state.intents["old"] = Intent(names=["cpu-0"], config="x", choice={}, requested_at=0.0)  # type: ignore[arg-type]
    state.issue(["old", *map(str, range(MAX_ISSUED + 10))], 1.0)
    assert len(state.issued) == MAX_ISSUED
    assert "9" not in state.issued
    assert {"old", "10", str(MAX_ISSUED + 9)} <= state.batches
    assert "" not in state.batches
    again = codec.decode(codec.encode(state), "x")
    assert list(again.issued) == list(state.issued)


def test_recover_refuses_a_name_that_two_vms_claim(run: Run, cloud: FakeCloud) -> None:
    cloud.keeps_token = False
    assert run(*APPLY).code == 0
    vm = claim(cloud, "scheduler")
    os.unlink(STATE)
    result = run("recover")
    assert (result.code, result.err) == (
        1,
        snapshot("""\
Error: cannot recover cluster 'demo': several VMs claim to be the same node
  scheduler: i-0000, i-0004. Find out which of them planapply launched, and terminate the others or
  remove their tags. Then run `planapply recover demo` again.
"""),
    )
    assert not Path(STATE).exists()
    cloud.end_vm(vm.id)
    assert run("recover").code == 0


def test_recover_leaves_out_a_vm_with_another_token(run: Run, applied: FakeCloud) -> None:
    vm = claim(applied, "scheduler", batch=read().nodes["scheduler"].batch)
    os.unlink(STATE)
    result = run("recover")
    assert result.code == 0
    assert f"planapply did not launch: {vm.id}" in " ".join(result.err.split())
    assert read().nodes["scheduler"].vm != vm.id


PEM = "-----BEGIN CERTIFICATE-----\n{0}\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n{0}\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize("same", [True, False])
def test_recover_compares_the_keys_of_two_nodes(
    run: Run, cloud: FakeCloud, same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = Path("planapply.toml")
    spec.write_text(spec.read_text().replace('"demo"', '"demo"\nsecurity = "tls"'))
    assert run(*APPLY).code == 0
    scheduler = read().nodes["scheduler"].vm
    os.unlink(STATE)

    def secrets(self: object, id: str) -> str:
        return PEM.format("a" if same or id == scheduler else "b")

    # A class of its own, because Python remembers the capabilities of a class.
    showing = type("Showing", (fake_plugin.Provider,), {"secrets": secrets})
    monkeypatch.setattr(fake_plugin, "Provider", showing)
    result = run("recover")
    if same:
        assert (result.code, result.err) == (0, "")
        return
    assert (result.code, result.err) == (
        1,
        snapshot("""\
Error: cannot recover cluster 'demo': its nodes have different TLS keys
  The scheduler (VM i-0000) and cpu-0 (VM i-0001) were given different keys, so planapply did not
  launch both for this cluster. Find out which of them it launched, and terminate the other or
  remove its tags. Then run `planapply recover demo` again.
"""),
    )
    assert not Path(STATE).exists()


def test_second_cluster_needs_new_cluster(run: Run, cloud: FakeCloud) -> None:
    assert run(*APPLY).code == 0
    first = read()
    Path(STATE).rename("other.json")
    assert run("plan").code == 0
    for arguments in (APPLY, ("plan", "--out", "the.plan"), ("apply", "the.plan")):
        result = run(*arguments)
        assert result.code == (arguments[0] == "apply")
        text = " ".join(result.err.split())
        assert "cannot create cluster 'demo': 4 VMs of a cluster with this name exist" in text
        assert f"by {first.origin.split(' ')[0]} with the state {Path(STATE).resolve()}" in text
        assert (
            text.index("--state") < text.index("another `name`") < text.index("planapply recover")
        )
        assert len(cloud.live_vms()) == 4
    assert run("plan", "--state", "other.json").out.startswith("No changes.")
    assert run(*APPLY, "--new-cluster").code == 0
    assert len(cloud.live_vms()) == 8
    assert run(*APPLY).code == 0  # its state knows it now


def test_destroyed_cluster_of_another_state_is_no_second_cluster(
    run: Run, cloud: FakeCloud
) -> None:
    assert run(*APPLY).code == 0
    assert run(*DESTROY).code == 0
    assert run(*APPLY).code == 0
    Path(STATE).rename("other.json")
    assert run(*DESTROY, "--state", "other.json").code == 0
    assert run(*APPLY).code == 0


def test_empty_state_is_no_excuse_for_a_second_cluster(run: Run, cloud: FakeCloud) -> None:
    assert run(*APPLY).code == 0
    assert run(*DESTROY).code == 0
    assert run(*APPLY, "--state", "other.json").code == 0
    assert run(*APPLY).code == 1
    assert len(cloud.live_vms()) == 4
