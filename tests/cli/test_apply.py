"""planapply apply and destroy: output, questions, effects, and exit codes."""

import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from cli import fake_plugin
from cli.commands import SPEC, Run, events
from fake_provider import FakeCloud
from inline_snapshot import snapshot

from planapply import __version__
from planapply.model.state import Resource, State
from planapply.provider import ErrorKind
from planapply.store import open_store, state_store


def state() -> State:
    found = open_store("planapply.state.json").read()
    assert found is not None
    return found


def without_times(err: str) -> str:
    """Return the output without the elapsed time at the beginning of progress lines, which varies."""
    return "".join(
        f"{line[9:] if line[:7].strip()[:1].isdigit() else line}\n" for line in err.splitlines()
    )


def test_apply_then_destroy(run: Run, cloud: FakeCloud) -> None:
    result = run("apply", "--auto-approve", "--no-wait", "--parallelism", "1")
    assert (result.code, result.out) == (
        0,
        snapshot("""\
planapply will change cluster "demo" (fake, mars):

  +   scheduler         small
  +   cpu-[0-2]   (3)   large

Plan: 4 to add, 0 to change, 0 to destroy.
Cost: 0.00 USD/h -> 4.60 USD/h (list prices of 2025-03-02)

Apply complete: 4 added, 0 changed, 0 destroyed.

scheduler_address = tcp://127.0.0.1:1
"""),
    )
    assert without_times(result.err) == snapshot("""\
scheduler: launching (small)
scheduler: launched
cpu-[0-2]: launching (large)
cpu-[0-2]: launched
""")
    assert len(cloud.live_vms()) == 4
    assert run("apply", "--no-wait") == (
        0,
        snapshot("""\
No changes. Cluster "demo" matches its spec.
Cost: 4.60 USD/h (list prices of 2025-03-02)

scheduler_address = tcp://127.0.0.1:1
"""),
        "",
    )

    result = run("destroy", "--auto-approve", "--parallelism", "1")
    assert (result.code, result.out) == (
        0,
        snapshot("""\
planapply will destroy cluster "demo" (fake, mars):

  -   cpu-[0-2]   (3)   large
  -   scheduler         small

Plan: 0 to add, 0 to change, 4 to destroy.
Cost: 4.60 USD/h -> 0.00 USD/h (list prices of 2025-03-02)

Destroy complete: 4 destroyed.
"""),
    )
    assert without_times(result.err) == snapshot("""\
cpu-[0-2]: terminating
cpu-[0-2]: terminated
scheduler: terminating
scheduler: terminated
""")
    assert not cloud.live_vms()
    assert state().is_empty
    assert run("destroy") == (0, "No changes. There is nothing to destroy.\n", "")


def test_without_a_terminal_apply_needs_auto_approve(run: Run, cloud: FakeCloud) -> None:
    result = run("apply")
    assert result.code == 1
    assert result.out == run("plan").out
    assert result.err == snapshot("""\
Error: cannot ask for approval: stdin is not a terminal
  Pass --auto-approve; or save a plan with `planapply plan --out FILE`, review it, and run
  `planapply apply FILE`.
""")
    [event] = events(run("apply", "--json").out)
    assert event["data"] == snapshot(
        {
            "outcome": "failed",
            "added": 0,
            "changed": 0,
            "destroyed": 0,
            "diagnostics": [
                {
                    "severity": "error",
                    "summary": "cannot ask for approval: --json is given",
                    "detail": "Pass --auto-approve; or save a plan with `planapply plan --out FILE`, review it, and run `planapply apply FILE`.",
                    "source": None,
                    "code": "approval_required",
                }
            ],
        }
    )
    assert not cloud.machines
    assert not Path("planapply.state.json").exists()


def test_json_ends_with_any_error(
    run: Run, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    def last(*arguments: str) -> str:
        result = run(*arguments, "--json", "--auto-approve")
        assert result.code == 1
        [event] = events(result.out)
        [diagnostic] = event["data"].pop("diagnostics")
        nothing = {"outcome": "failed", "added": 0, "changed": 0, "destroyed": 0}
        assert event == {"event": "finished", "data": nothing}
        assert f"Error: {diagnostic['summary']}\n" in result.err
        return str(diagnostic["summary"])

    spec, place = Path("planapply.toml"), Path("planapply.state.json")
    said = {
        "options": last("apply", "--refresh-only", "--destroy"),
        "no plan": last("apply", "plan"),
        "no state": last("destroy"),
    }
    spec.write_text(SPEC.replace("count = 3", "count = -1"))
    said["spec"] = last("apply")
    spec.write_text(SPEC)
    with open_store(str(place)).lock("a test"):
        said["lock"] = last("apply")
    cloud.fail_next("find", ErrorKind.UNAUTHORIZED)
    said["provider"] = last("apply")
    with monkeypatch.context() as patch:
        patch.setattr("planapply.ops.plan.add_cost", lambda *arguments: 1 / 0)
        said["bug"] = last("apply").replace(__version__, "VERSION")
    place.write_text("[]")
    said |= {"state": last("apply"), "destroy": last("destroy")}
    assert said == snapshot(
        {
            "options": "cannot combine --refresh-only with --destroy, --target, --replace or --no-refresh",
            "no plan": "cannot read the plan file plan: No such file or directory",
            "no state": "there is no state at planapply.state.json",
            "spec": "`workers.cpu.count` must be at least 0, not -1",
            "lock": "the state planapply.state.json is locked",
            "provider": "find: unauthorized",
            "bug": "this is a bug in planapply VERSION: ZeroDivisionError('division by zero')",
            "state": "planapply.state.json is not a planapply state",
            "destroy": "planapply.state.json is not a planapply state",
        }
    )


def test_json_contains_the_position_of_an_error(run: Run, cloud: FakeCloud) -> None:
    Path("planapply.toml").write_text(SPEC.replace("count = 3", "count = -1"))
    [event] = events(run("apply", "--json").out)
    assert event["data"]["diagnostics"] == snapshot(
        [
            {
                "severity": "error",
                "summary": "`workers.cpu.count` must be at least 0, not -1",
                "detail": "Example: `count = 20`.",
                "source": {"file": "planapply.toml", "line": 12, "column": 1, "text": "count = -1"},
                "code": "spec_invalid",
            }
        ]
    )


def test_json_prints_one_event_per_line(run: Run, cloud: FakeCloud) -> None:
    result = run("apply", "--json", "--auto-approve", "--no-wait", "--parallelism", "1")
    assert (result.code, result.err) == (0, "")
    found = events(result.out)
    found[-1]["data"]["outputs"]["lineage"] = "…"
    assert found == snapshot(
        [
            {"event": "launching", "names": ["scheduler"], "message": "small"},
            {"event": "launched", "names": ["scheduler"]},
            {"event": "launching", "names": ["cpu-0", "cpu-1", "cpu-2"], "message": "large"},
            {"event": "launched", "names": ["cpu-0", "cpu-1", "cpu-2"]},
            {
                "event": "finished",
                "data": {
                    "outcome": "complete",
                    "added": 4,
                    "changed": 0,
                    "destroyed": 0,
                    "outputs": {
                        "account": "fake",
                        "cluster": "demo",
                        "provider": "fake",
                        "lineage": "…",
                        "security": "none",
                        "scheduler_address": "tcp://127.0.0.1:1",
                        "scheduler_address_private": "tcp://127.0.0.1:1",
                        "scheduler_address_public": None,
                        "dashboard_url": None,
                    },
                },
            },
        ]
    )
    result = run("apply", "--json", "--no-wait")
    assert [json.loads(line)["data"]["outcome"] for line in result.out.splitlines()] == ["complete"]


def test_failures_are_reported_and_retried_by_the_next_apply(run: Run, cloud: FakeCloud) -> None:
    cloud.capacity["large"] = 1
    result = run("apply", "--auto-approve", "--no-wait", "--parallelism", "1")
    assert (result.code, result.out) == (
        1,
        snapshot("""\
planapply will change cluster "demo" (fake, mars):

  +   scheduler         small
  +   cpu-[0-2]   (3)   large

Plan: 4 to add, 0 to change, 0 to destroy.
Cost: 0.00 USD/h -> 4.60 USD/h (list prices of 2025-03-02)

Apply incomplete: 2 added, 0 changed, 0 destroyed, 2 failed.
Failed: cpu-[1-2]. Run `planapply apply` again to retry.

scheduler_address = tcp://127.0.0.1:1
"""),
    )
    assert without_times(result.err) == snapshot("""\
scheduler: launching (small)
scheduler: launched
cpu-[0-2]: launching (large)
cpu-0: launched

Error: cpu-[1-2]: 2 VMs too many: large
""")
    assert sorted(state().nodes) == ["cpu-0", "scheduler"]

    result = run("apply", "--auto-approve", "--no-wait", "--json")
    events = [json.loads(line) for line in result.out.splitlines()]
    assert result.code == 1
    assert events[-1]["data"]["outcome"] == "incomplete"
    assert events[-1]["data"]["added"] == 0
    assert [d["summary"] for d in events[-1]["data"]["diagnostics"]] == snapshot(
        ["cpu-[1-2]: 2 VMs too many: large"]
    )

    cloud.capacity["large"] = 10
    assert run("apply", "--auto-approve", "--no-wait").code == 0
    assert len(cloud.live_vms()) == 4


def test_nodes_that_have_not_joined_are_reported(run: Run, cloud: FakeCloud) -> None:
    result = run("apply", "--auto-approve", "--set", 'cluster.join_timeout="0.1 s"')
    assert result.code == 1
    assert result.out.partition("\n\nApply ")[2] == snapshot("""\
incomplete: 4 added, 0 changed, 0 destroyed, 4 not joined.
Launched, but not joined: scheduler, cpu-[0-2]. Run `planapply status` to see which of these VMs are
running, and `planapply logs NODE` for the log of one. The next apply replaces terminated VMs; to
replace another one, run `planapply apply --replace NODE`.

scheduler_address = tcp://127.0.0.1:1
""")
    assert result.err.count("did not join within 0.1 s") == 4 + 4  # as an event, and at the end
    assert len(cloud.live_vms()) == len(state().nodes) == 4

    again = run("apply", "--set", 'cluster.join_timeout="0.1 s"')
    assert again.code == 1
    assert again.out == snapshot("""\
No changes. Cluster "demo" matches its spec.
Cost: 4.60 USD/h (list prices of 2025-03-02)

Apply incomplete: 0 added, 0 changed, 0 destroyed, 4 not joined.
Launched, but not joined: scheduler, cpu-[0-2]. Run `planapply status` to see which of these VMs are
running, and `planapply logs NODE` for the log of one. The next apply replaces terminated VMs; to
replace another one, run `planapply apply --replace NODE`.

scheduler_address = tcp://127.0.0.1:1
""")
    assert again.err.count("did not join within 0.1 s") == 4 + 4
    assert without_times(again.err).splitlines()[0] == snapshot(
        "scheduler, cpu-[0-2]: launched earlier; have not joined yet"
    )
    assert run("apply", "--no-wait", "--set", 'cluster.join_timeout="0.1 s"').err == ""


def test_refusal_of_the_cloud_is_printed_verbatim(run: Run, cloud: FakeCloud) -> None:
    cloud.fail_next("launch", ErrorKind.UNAUTHORIZED)
    result = run("apply", "--auto-approve", "--no-wait")
    assert (result.code, result.out) == (
        1,
        snapshot("""\
planapply will change cluster "demo" (fake, mars):

  +   scheduler         small
  +   cpu-[0-2]   (3)   large

Plan: 4 to add, 0 to change, 0 to destroy.
Cost: 0.00 USD/h -> 4.60 USD/h (list prices of 2025-03-02)

Apply incomplete: 0 added, 0 changed, 0 destroyed, 4 failed.
Failed: scheduler, cpu-[0-2]. Run `planapply apply` again to retry.
"""),
    )
    assert without_times(result.err) == snapshot("""\
scheduler: launching (small)

Error: scheduler: launch: unauthorized

Error: cpu-[0-2] was not launched: the cluster has no scheduler
""")
    cloud.fail_next("find", ErrorKind.UNAUTHORIZED)
    assert run("plan") == (1, "", "Error: find: unauthorized\n")


def test_supporting_resources_are_created_first_and_deleted_last(
    run: Run, cloud: FakeCloud
) -> None:
    cloud.required_resources["firewall"] = Resource(kind="security_group")
    result = run("apply", "--auto-approve", "--no-wait", "--parallelism", "1")
    assert result.out == snapshot("""\
planapply will change cluster "demo" (fake, mars):

  +   firewall          supporting resource
  +   scheduler         small
  +   cpu-[0-2]   (3)   large

Plan: 5 to add, 0 to change, 0 to destroy.
Cost: 0.00 USD/h -> 4.60 USD/h (list prices of 2025-03-02)

Apply complete: 5 added, 0 changed, 0 destroyed.

scheduler_address = tcp://127.0.0.1:1
""")
    assert without_times(result.err).splitlines()[0] == snapshot(
        "firewall: created security_group r-0001"
    )
    result = run("destroy", "--auto-approve", "--parallelism", "1")
    assert result.out == snapshot("""\
planapply will destroy cluster "demo" (fake, mars):

  -   cpu-[0-2]   (3)   large
  -   scheduler         small
  -   firewall          supporting resource

Plan: 0 to add, 0 to change, 5 to destroy.
Cost: 4.60 USD/h -> 0.00 USD/h (list prices of 2025-03-02)

Destroy complete: 5 destroyed.
""")
    assert not cloud.resources


def test_protect_does_not_hide_a_lost_scheduler(run: Run, cloud: FakeCloud) -> None:
    assert run("apply", "--auto-approve", "--no-wait", "--set", "cluster.protect=true").code == 0
    [scheduler] = [vm.id for vm in cloud.live_vms() if vm.name == "scheduler"]
    cloud.end_vm(scheduler)
    assert run("plan", "--set", "cluster.protect=true").err == snapshot("""\
Error: cannot destroy or replace cpu-[0-2]: the cluster is protected
  The scheduler's VM no longer exists, so every worker must be replaced along with it. To remove the
  protection, set `protect = false` under [cluster] and apply that first.
""")


def test_protected_cluster_is_not_destroyed(run: Run, cloud: FakeCloud) -> None:
    assert run("apply", "--auto-approve", "--no-wait", "--set", "cluster.protect=true").code == 0
    assert run("destroy", "--auto-approve") == (
        1,
        "",
        snapshot("""\
Error: cannot destroy or replace scheduler, cpu-[0-2]: the cluster is protected
  To remove the protection, set `protect = false` under [cluster] and apply that first.
"""),
    )
    assert len(cloud.live_vms()) == 4


def test_single_target_is_applied(run: Run, cloud: FakeCloud) -> None:
    assert run("apply", "--auto-approve", "--no-wait", "--target", "cpu-1").code == 0
    assert sorted(state().nodes) == ["cpu-1", "scheduler"]
    assert run("destroy", "--auto-approve", "--target", "cpu").code == 0
    assert sorted(state().nodes) == ["scheduler"]


def test_state_locked_by_another_process_is_reported(run: Run, cloud: FakeCloud) -> None:
    with open_store("planapply.state.json").lock("a test"):
        for arguments, locked in (
            (["apply"], "is locked"),
            (["apply", "--lock-timeout", "3 s"], "is still locked after 3 s"),
            (["plan", "--lock-timeout=1"], "is still locked after 1 s"),
            (["ssh", "cpu-0", "--lock-timeout=0.2"], "is still locked after 0.2 s"),
        ):
            result = run(*arguments)
            assert (result.code, result.out) == (1, "")
            assert f"Error: the state planapply.state.json {locked}\n" in result.err
            waited = "waiting for the state's lock: " in result.err
            assert waited == ("--lock-timeout" in " ".join(arguments))
        assert run("plan").code == 0  # reading takes no lock
    assert run("plan", "--lock-timeout", "1 s").code == 0


@pytest.mark.parametrize(
    "command",
    ["apply", "destroy", "scale cpu=1", "allow", "state rm cpu-0", "apply --lock-timeout=0.1"],
)
def test_watcher_is_waited_for(
    run: Run, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    assert run("apply", "--auto-approve", "--no-wait").code == 0
    monkeypatch.setattr(state_store, "WATCHER_TIMEOUT", 0.3)
    with open_store("planapply.state.json").lock("watch") as held:
        # The lock as another machine has it, since this process would not wait for itself.
        there = {
            "host": "elsewhere",
            "machine": "another",
            "boot": "another",
            "who": "me@elsewhere",
        }
        Path("planapply.state.json.lock").write_bytes(held.model_copy(update=there).encode())
        result = run(*command.split())
        assert (result.code, result.out) == (1, "")
        told, _, error = " ".join(result.err.split()).removeprefix("0:00 ").partition(" Error: ")
        assert told == (
            f"waiting for the lock of the watcher: me@elsewhere (process {held.pid}) has held lock "
            f"{held.id} since {held.since}, for watch."
        )
        assert error.startswith("the state planapply.state.json is still locked after 0.3 s ")
        assert run("plan").code == 0


def test_state_can_be_elsewhere(run: Run, cloud: FakeCloud, tmp_path: Path) -> None:
    place = str(tmp_path / "elsewhere.json")
    assert run("apply", "--auto-approve", "--no-wait", "--state", place).code == 0
    assert not Path("planapply.state.json").exists()
    Path("planapply.toml").write_text("this = is not TOML")
    assert run("output", "cluster", "--state", place) == (0, "demo\n", "")
    assert run("output", "cluster", "--file", place) == (0, "demo\n", "")
    assert run("destroy", "--auto-approve", "--state", place).code == 0
    assert not cloud.live_vms()


@pytest.mark.parametrize("content", ["", "{}", '{"format_version": 99}', "\x00"])
def test_unreadable_state_is_left_unchanged(run: Run, cloud: FakeCloud, content: str) -> None:
    Path("planapply.state.json").write_text(content)
    commands = ("plan", "apply", "destroy", "status", "output", "env", "show", "logs scheduler")
    for command in commands:
        result = run(*command.split(), *(["--auto-approve"] * (command in ("apply", "destroy"))))
        assert (result.code, result.out) == (1, "")
        assert result.err.startswith("Error: ")
        assert "planapply.state.json" in result.err
    assert Path("planapply.state.json").read_text() == content
    assert not cloud.machines


def test_account_can_change_after_destroy(
    run: Run, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fake_plugin.EXTRA_IDENTITY, "zone", "north")
    assert run("apply", "--auto-approve", "--no-wait").code == 0
    monkeypatch.setitem(fake_plugin.EXTRA_IDENTITY, "zone", "south")
    assert "is south, but the state was made with north" in run("destroy", "--auto-approve").err
    monkeypatch.setitem(fake_plugin.EXTRA_IDENTITY, "zone", "north")
    assert run("destroy", "--auto-approve").code == 0
    monkeypatch.setitem(fake_plugin.EXTRA_IDENTITY, "zone", "south")
    assert run("apply", "--auto-approve", "--no-wait").code == 0
    assert state().cloud["zone"] == "south"
    assert run("destroy", "--auto-approve").code == 0
    assert not cloud.live_vms()


def test_max_cost_needs_all_prices(run: Run, cloud: FakeCloud) -> None:
    guarded = run("plan", "--set", "cluster.max_cost=10", "--set", 'workers.cpu.size="odd"')
    assert guarded.code == 1
    assert guarded.err == snapshot("""\
Error: cannot enforce `max_cost`: no price known for odd
  Set the price of each size in USD/h with `price` under [provider], such as
  `price = { "odd" = 1.25 }`; or remove `max_cost` under [cluster].
""")


def test_stopped_destroy_is_finished_by_another_destroy(
    run: Run, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An apply would launch the nodes again, and a destroy without the targets might go too far."""
    assert run("apply", "--auto-approve", "--no-wait").code == 0
    Path("planapply.toml").rename("other.toml")
    terminate = fake_plugin.Provider.terminate

    def stop(self: fake_plugin.Provider, ids: Sequence[str]) -> Sequence[str]:
        if cloud.calls["terminate"] == 0:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1.0)  # this is a thread: the main one handles the signal
        return terminate(self, ids)

    monkeypatch.setattr(fake_plugin.Provider, "terminate", stop)
    targets = ("--state", "planapply.state.json", "--target", "cpu", "--target", "scheduler")
    result = run("destroy", "--auto-approve", "--no-retire", *targets)
    assert result.code == 130
    text = " ".join(result.err.partition("Destroy stopped: ")[2].split())
    assert text.partition(" destroyed. ")[2] == snapshot(
        "Run `planapply destroy --state planapply.state.json --target cpu --target scheduler` again to finish; an apply would launch the nodes again."
    )
