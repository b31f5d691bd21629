"""With `--json`, every error is a document, too, and each error has a code."""

import json
from pathlib import Path

import pytest
from cli.commands import SPEC, Run, events
from fake_provider import FakeCloud
from inline_snapshot import snapshot

from planapply.provider import ErrorKind


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["plan", "--target", "gpu"], "node_unknown"),
        (["plan", "-f", "none.toml"], "file_missing"),
        (["plan", "--set", "workers.cpu.count=-1"], "spec_invalid"),
        (["plan", "--set", "cluster.max_cost=0.01"], "max_cost_exceeded"),
        (["plan", "--no-such-option"], "usage"),
        (["status"], "state_missing"),
        (["output", "nothing"], "state_missing"),
        (["show", "planapply.toml"], "plan_invalid"),
        (["state", "list", "--state", "planapply.toml"], "state_invalid"),
        (["list", "--lock"], "usage"),
    ],
)
def test_an_error_is_a_document(
    run: Run, cloud: FakeCloud, arguments: list[str], code: str
) -> None:
    result = run(*arguments, "--json")
    document = json.loads(result.out)
    assert result.code == 1
    assert document.keys() == {"format_version", "diagnostics"}
    assert [d["code"] for d in document["diagnostics"]] == [code]
    assert f"Error: {document['diagnostics'][0]['summary']}"[:60] in result.err
    assert run(*arguments).out == ""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["apply"], "approval_required"),
        (["apply", "--no-such-option"], "usage"),
        (["apply", "none"], "error"),
        (["destroy"], "state_missing"),
        (["apply", "--set", "cluster.max_cost=0.01"], "max_cost_exceeded"),
    ],
)
def test_an_apply_that_fails_ends_with_an_event(
    run: Run, cloud: FakeCloud, arguments: list[str], code: str
) -> None:
    [event] = events(run(*arguments, "--json").out)
    assert (event["event"], event["data"]["outcome"]) == ("finished", "failed")
    assert [d["code"] for d in event["data"]["diagnostics"]] == [code]


def test_a_bug_is_a_document_too(
    run: Run, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planapply.ops.plan.add_cost", lambda *arguments: 1 / 0)
    assert json.loads(run("plan", "--json").out)["diagnostics"][0]["code"] == "bug"


def test_a_plan_that_cannot_be_saved_is_one_document(run: Run, cloud: FakeCloud) -> None:
    result = run("plan", "--json", "--out", "none/plan")
    assert [d["summary"] for d in json.loads(result.out)["diagnostics"]] == snapshot(
        ["cannot save the plan to none/plan: No such file or directory"]
    )


def test_the_last_event_lists_what_failed(run: Run, cloud: FakeCloud) -> None:
    cloud.capacity["large"] = 1
    data = events(run("apply", "--json", "--auto-approve", "--no-wait").out)[-1]["data"]
    assert data["failed"] == snapshot(
        [
            {
                "name": "cpu-1",
                "code": "cloud_capacity",
                "summary": "cpu-1: 2 VMs too many: large",
                "launched": False,
            },
            {
                "name": "cpu-2",
                "code": "cloud_capacity",
                "summary": "cpu-2: 2 VMs too many: large",
                "launched": False,
            },
        ]
    )
    assert (data["added"], data["outcome"]) == (2, "incomplete")
    assert [d["code"] for d in data["diagnostics"]] == ["cloud_capacity"]


def test_launched_nodes_that_have_not_joined_are_added(run: Run, cloud: FakeCloud) -> None:
    options = ["--auto-approve", "--json", "--set", 'cluster.join_timeout="0.1 s"']
    data = events(run("apply", *options).out)[-1]["data"]
    assert (data["added"], data["changed"], data["destroyed"]) == (4, 0, 0)
    assert data["failed"][0] == snapshot(
        {
            "name": "scheduler",
            "code": "not_joined",
            "summary": "scheduler did not join within 0.1 s; this machine cannot reach the scheduler",
            "launched": True,
        }
    )


def test_a_node_that_was_gone_is_not_destroyed(run: Run, cloud: FakeCloud) -> None:
    """The plan says "1 to add", and nothing joins: one was added, and none destroyed."""
    run("apply", "--auto-approve", "--no-wait")
    cloud.end_vm("i-0001")
    timeout = 'cluster.join_timeout="0.1 s"'
    planned = run("plan", "--set", timeout).out
    assert "Plan: 1 to add, 0 to change, 0 to destroy." in planned
    applied = run("apply", "--auto-approve", "--set", timeout)
    assert "Apply incomplete: 1 added, 0 changed, 0 destroyed, 4 not joined." in applied.out


def test_policy_facts_of_every_create(run: Run, cloud: FakeCloud) -> None:
    spec = SPEC.replace(
        'size = "large"', 'size = ["large", "small"]\nzones = ["a"]\nspot = "prefer"'
    )
    Path("planapply.toml").write_text(spec + 'tags = { team = "bio" }\nimage = "i"\n')
    changes = json.loads(run("plan", "--json").out)["changes"]
    facts = ("size", "spot", "zone", "image", "ports", "networks", "tags")
    assert [{key: change[key] for key in facts} for change in changes[:2]] == snapshot(
        [
            {
                "size": ["small"],
                "spot": False,
                "zone": [],
                "image": None,
                "ports": [],
                "networks": [],
                "tags": {},
            },
            {
                "size": ["large", "small"],
                "spot": "prefer",
                "zone": ["a"],
                "image": "i",
                "ports": [],
                "networks": [],
                "tags": {"team": "bio"},
            },
        ]
    )


def test_throttling_is_reported_while_it_lasts(
    run: Run, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planapply.fleet.throttling.FIRST_REPORT", 0.0)
    cloud.fail_next("launch", ErrorKind.THROTTLED, ErrorKind.THROTTLED)
    result = run("apply", "--auto-approve", "--no-wait")
    assert result.code == 0
    lines = [line[9:] for line in result.err.splitlines() if "throttles" in line]
    assert lines == [
        "waiting for the cloud, which throttles requests: launch: throttled (1 request refused in 0 s)"
    ]
    assert "The cloud throttled requests for at least 0 s." in " ".join(result.err.split())


def test_throttling_is_reported_by_other_commands_and_events(
    run: Run, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planapply.fleet.throttling.FIRST_REPORT", 0.0)
    run("apply", "--auto-approve", "--no-wait")
    cloud.fail_next("find", ErrorKind.THROTTLED)
    assert "which throttles requests: find: throttled" in run("plan").err
    cloud.fail_next("find", ErrorKind.UNAVAILABLE)
    assert "which is not available: find: unavailable" in run("status").err
    cloud.fail_next("find", ErrorKind.THROTTLED)
    found = events(run("destroy", "--auto-approve", "--json").out)
    assert "throttled" in [event["event"] for event in found]
    assert found[-1]["data"]["throttled"]["requests"] == 1
