"""Access to the scheduler: shown in the plan and the status, checked, extended, and reduced."""

import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from ec2.project import Project
from inline_snapshot import snapshot
from lab.honest import Cloud

from planapply.model.diagnostics import PlanapplyError
from planapply.model.plan import Plan
from planapply.ops.access import allow
from planapply.ops.apply import apply
from planapply.ops.status import status
from planapply.render.document import plan_document
from planapply.render.plan import plan_lines
from planapply.render.status import status_lines
from planapply.render.text import to_plain_text
from planapply.store.planfile import read_plan, write_plan


def open_networks() -> set[str]:
    """Return the networks that the cluster's group lets in, as EC2 sees them."""
    groups = boto3.client("ec2").describe_security_groups()["SecurityGroups"]
    [group] = [g for g in groups if g["GroupName"].startswith("planapply ")]
    return {r["CidrIp"] for rule in group["IpPermissions"] for r in rule.get("IpRanges", [])}


def access_lines(project: Project, *overrides: str) -> list[str]:
    lines = to_plain_text(plan_lines(project.plan(*overrides), 200)).splitlines()
    return [line for line in lines if line.startswith("Access:")]


def error_of(call: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(PlanapplyError) as raised:
        call(*arguments, **options)
    return str(raised.value)


def test_plan_shows_who_can_reach_the_scheduler(project: Project, aws: Cloud) -> None:
    project.add_lines("provider", 'allow_from = ["me", "10.0.0.0/8"]')
    line = "Access: ports 8786, 8787 from 203.0.113.7/32 (me), 10.0.0.0/8"
    assert access_lines(project) == [line]
    changes = plan_document(project.plan())["changes"]
    assert {change["name"] for change in changes} >= {"security-group", "scheduler", "cpu-0"}
    assert all(
        (change["ports"], change["networks"]) == ([8786, 8787], ["10.0.0.0/8", "203.0.113.7/32"])
        for change in changes
    )
    project.apply()
    aws.configure(address="198.51.100.77")  # the address of the first apply is kept
    assert access_lines(project) == [line]
    allow(project.workspace(), "192.0.2.0/24")
    line += ", 192.0.2.0/24 (`allow`)"
    assert access_lines(project) == [line]
    shown = to_plain_text(status_lines(status(project.workspace()), 200))
    assert line.replace("Access: ", "Access:     ") in shown.splitlines()


def test_open_access_is_a_warning_with_tls(project: Project, aws: Cloud) -> None:
    for network in ("0.0.0.0/0", "::/0", "128.0.0.0/1"):
        [found] = [
            d
            for d in project.plan(f"provider.allow_from=['{network}']").diagnostics
            if d.severity == "warning"
        ]
        assert network in found.summary
    found = project.plan("provider.allow_from=['10.0.0.0/8', '203.0.113.0/24']").diagnostics
    assert [d.severity for d in found] == ["note"]


def test_open_access_needs_tls_also_later(project: Project, aws: Cloud) -> None:
    """Neither a changed spec nor `allow` opens a cluster without TLS to everyone."""
    project.add_lines("cluster", 'security = "none"')
    project.apply()
    everyone = "provider.allow_from=['0.0.0.0/0']"
    assert project.plan_error(everyone) == snapshot("""\
cannot allow 0.0.0.0/0: with security = "none" anyone who reaches the scheduler can run code on every node
Write security = "tls" under [cluster], or allow smaller networks.\
""")
    for network in ("0.0.0.0/0", "::/0", "0.0.0.0/1"):
        assert f"cannot allow {network}: with" in error_of(allow, project.workspace(), network)
    assert open_networks() == {"203.0.113.7/32"}
    assert project.state().resources["security-group"].detail.get("allowed") is None


def test_networks_that_are_wide_together_need_tls(project: Project, aws: Cloud) -> None:
    project.add_lines("cluster", 'security = "none"')
    both = "provider.allow_from=['8.0.0.0/9', '9.0.0.0/9']"
    assert "cannot allow 8.0.0.0/9, 9.0.0.0/9: with" in project.plan_error(both)
    project.apply()
    allow(project.workspace(), "8.0.0.0/9")
    assert "cannot allow 203.0.113.7/32, 8.0.0.0/9, 9.0.0.0/9: with" in error_of(
        allow, project.workspace(), "9.0.0.0/9"
    )
    assert "127.0.0.1` is a loopback network" in error_of(allow, project.workspace(), "127.0.0.1")
    assert open_networks() == {"203.0.113.7/32", "8.0.0.0/9"}


def test_allow_of_everyone_is_a_warning_with_tls(project: Project, aws: Cloud) -> None:
    project.apply()
    notes: list[str] = []
    allow(project.workspace(), "0.0.0.0/0", on_event=lambda event: notes.append(event.message))
    assert len(notes) == 1
    assert "anyone on the internet can reach the scheduler: 0.0.0.0/0" in notes[0]
    assert any("0.0.0.0/0" in d.summary for d in project.plan().diagnostics)


def test_an_allowed_network_can_be_removed(project: Project, aws: Cloud) -> None:
    project.apply()
    aws.configure(address="198.51.100.9")
    allow(project.workspace(), None)
    allow(project.workspace(), "192.0.2.0/24")
    assert open_networks() == {"203.0.113.7/32", "198.51.100.9/32", "192.0.2.0/24"}
    allow(project.workspace(), None, remove=True)
    allow(project.workspace(), "192.0.2.0/24", remove=True)
    assert open_networks() == {"203.0.113.7/32"}
    assert project.state().resources["security-group"].detail["allowed"] == []
    assert project.plan().changes == ()
    errors = [
        error_of(allow, project.workspace(), network, remove=True)
        for network in ("192.0.2.0/24", "203.0.113.7", "the office")
    ]
    assert errors == snapshot(
        [
            """\
192.0.2.0/24 is not allowed
Networks added by `planapply allow`: none.\
""",
            """\
cannot remove 203.0.113.7/32: `allow_from` in the spec allows it
Remove it from `allow_from` under [provider], then run `planapply apply`.\
""",
            """\
`the office` is not a network
Write a network such as "203.0.113.0/24", or an address.\
""",
        ]
    )


def test_a_removed_network_stays_if_the_spec_allows_it(project: Project, aws: Cloud) -> None:
    project.apply()
    allow(project.workspace(), "10.0.0.0/8")
    project.apply("provider.allow_from=['me', '10.0.0.0/8']")
    allow(project.workspace(), "10.0.0.0/8", remove=True)
    assert open_networks() == {"203.0.113.7/32", "10.0.0.0/8"}


def test_a_removed_entry_of_allow_from_is_removed(project: Project, aws: Cloud) -> None:
    project.apply("provider.allow_from=['me', '10.0.0.0/8', '192.0.2.0/24']")
    allow(project.workspace(), "198.51.100.0/24")
    project.apply("provider.allow_from=['10.0.0.0/8']")
    assert open_networks() == {"10.0.0.0/8", "198.51.100.0/24"}


def test_network_of_a_group_that_is_gone_is_removed_from_the_state(
    project: Project, aws: Cloud
) -> None:
    project.apply("workers.cpu.count=0")
    allow(project.workspace(), "192.0.2.0/24")
    ec2 = boto3.client("ec2")
    ec2.terminate_instances(InstanceIds=[project.state().nodes["scheduler"].vm])
    project.clock.sleep(120)
    ec2.delete_security_group(GroupId=project.state().resources["security-group"].id or "")
    error = error_of(allow, project.workspace(), "192.0.2.0/24", remove=True)
    assert "creates another one without this network" in error
    project.apply()
    assert open_networks() == {"203.0.113.7/32"}


def save(project: Project, path: Path, **changes: Any) -> Any:
    """Save a plan with these pins changed, and return it as `apply` reads it."""
    return change_pins(path, project.plan(), **changes)


def change_pins(path: Path, plan: Plan, **changes: Any) -> Any:
    """Save a plan with these pins changed, and return it as `apply` reads it."""
    write_plan(str(path), plan)
    document = json.loads(path.read_bytes())
    for key, value in changes.items():
        document["pins"][key] = dict.fromkeys(document["pins"][key], value)
    path.write_text(json.dumps(document))
    return read_plan(str(path))


def apply_saved(project: Project, saved: Any) -> None:
    apply(project.workspace(), lambda plan: True, saved_plan=saved)


def test_pins_of_a_saved_plan_are_checked(project: Project, aws: Cloud, tmp_path: Path) -> None:
    project.write(project.spec.read_text().replace('size = "m6i.large"', "cpus = 2"))
    path, ec2 = tmp_path / "p", boto3.client("ec2")
    stranger = next(
        image["ImageId"]
        for image in ec2.describe_images()["Images"]
        if not image["Name"].startswith("debian-12")
    )
    attempts: list[dict[str, Any]] = [
        {"defaults": {"image": stranger}},
        {"defaults": {"image": "ami-00000000000000000"}},
        {"defaults": {"image": stranger, "options": {"preload": "evil"}}},
        {"sizes": ["t3.nano"]},
        {"sizes": []},
        {"sizes": ["m6g.large"]},
    ]
    plan = project.plan()
    for changes in attempts:
        error = error_of(apply_saved, project, change_pins(path, plan, **changes))
        assert error.startswith("cannot apply the plan file: "), changes
    assert aws.instances() == []


def test_an_honest_plan_survives_another_choice_and_another_machine(
    project: Project, aws: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(project.spec.read_text().replace('size = "m6i.large"', "cpus = 2"))
    saved = save(project, tmp_path / "p")
    monkeypatch.setattr("planapply_ec2.choose.choose", lambda *arguments: ["m7i.large"])
    aws.configure(address="198.51.100.77")
    apply(
        project.workspace(),
        lambda plan: False,  # the plan was accepted; only its approval is missing
        saved_plan=saved,
    )
