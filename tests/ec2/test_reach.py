"""Access to VMs: console output, login, allowed networks, and user data."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
from ec2.project import Project
from inline_snapshot import snapshot
from lab.ec2 import backend
from lab.honest import Cloud
from planapply_ec2 import PLUGIN
from planapply_ec2.settings import Settings

from planapply.cli import main
from planapply.provider import ErrorKind, ProviderError


def provider() -> Any:
    return PLUGIN.connect(Settings(region="eu-west-1"))


def command(project: Project, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Return the exit code of a command, and its output."""
    capsys.readouterr()
    code = main([*words, "--file", str(project.spec)])
    out, err = capsys.readouterr()
    return code, out + err


def test_console_output(project: Project, aws: Cloud) -> None:
    aws.ec2.console = lambda id: b"".join(b"line %d\n" % i for i in range(9))
    project.apply()
    vm = project.state().nodes["cpu-1"].vm
    assert provider().console(vm, 2) == "line 7\nline 8\n"
    assert provider().console(vm, 0) == ""
    assert provider().console("i-0123456789abcdef0", 5) == ""
    assert provider().console("vm-of-nobody", 5) == ""


def test_console_falls_back_without_latest(project: Project, aws: Cloud) -> None:
    """Older instance types do not support `Latest`, nor do terminated VMs."""
    aws.ec2.console = lambda id: b"hello\n"
    project.apply()
    vm = project.state().nodes["cpu-1"].vm
    aws.fault("GetConsoleOutput", error="UnsupportedOperation")
    assert provider().console(vm, 5) == "hello\n"
    first, second = project.calls("GetConsoleOutput")
    assert (first["Latest"], second["Latest"]) == ("true", "false")
    aws.fault("GetConsoleOutput", error="UnauthorizedOperation", status=403, times=2)
    with pytest.raises(ProviderError) as raised:
        provider().console(vm, 5)
    assert raised.value.kind is ErrorKind.UNAUTHORIZED


def test_tls_key_is_read_from_user_data(project: Project) -> None:
    project.apply()
    tls = project.state().tls
    assert tls is not None
    user_data = provider().secrets(project.state().nodes["cpu-1"].vm)
    assert tls.certificate in user_data
    assert tls.key.get_secret_value() in user_data
    assert provider().secrets("i-0123456789abcdef0") == ""


def test_lost_state_is_recovered(
    project: Project, aws: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    project.add_lines("cluster", 'tags = { team = "bio" }')
    project.apply()
    before = project.state()
    Path(project.workspace().store.location).unlink()
    code, text = command(project, capsys, "recover")
    assert code == 0, text
    after = project.state()
    assert after.nodes.keys() == before.nodes.keys()
    assert {n: r.vm for n, r in after.nodes.items()} == {n: r.vm for n, r in before.nodes.items()}
    assert after.tls == before.tls
    assert after.resources == before.resources
    assert project.plan().changes == ()
    project.destroy()
    assert aws.instances() == []
    groups = boto3.client("ec2").describe_security_groups()["SecurityGroups"]
    assert {group["GroupName"] for group in groups} == {"default"}


@pytest.mark.parametrize(
    "spec",
    [
        'key_name = "laptop"',
        'allow_from = ["198.51.100.0/24", "me", "192.0.2.1/32"]',
        'allow_from = ["198.51.100.0/24"]',
    ],
)
def test_lost_state_is_recovered_with_its_allowed_networks(
    project: Project, aws: Cloud, capsys: pytest.CaptureFixture[str], spec: str
) -> None:
    boto3.client("ec2").create_key_pair(KeyName="laptop")
    project.add_lines("provider", spec)
    project.add_lines("scheduler", "options = { port = 9000 }")
    project.apply()
    command(project, capsys, "allow", "192.0.2.0/24")
    before = project.state()
    Path(project.workspace().store.location).unlink()
    assert command(project, capsys, "recover")[0] == 0
    after = project.state().resources["security-group"]
    assert after == before.resources["security-group"]
    assert project.plan().changes == ()
    aws.clear()
    project.apply("workers.cpu.count=4")
    assert aws.counts()["actions"].keys().isdisjoint({"RevokeSecurityGroupIngress", "CreateTags"})


def test_missing_rules_are_found_after_the_state_was_lost(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.add_lines("provider", 'allow_from = ["198.51.100.0/24", "me"]')
    project.apply()
    group = project.state().resources["security-group"].id or ""

    def rule(port: int, who: str) -> dict[str, Any]:
        ranges = [{"CidrIp": who}]
        return {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": ranges}

    ec2: Any = boto3.client("ec2")
    ec2.revoke_security_group_ingress(
        GroupId=group, IpPermissions=[rule(8787, "198.51.100.0/24"), rule(8786, "198.51.100.0/24")]
    )
    # A rule that a user added, for another port: it does not allow access to the scheduler.
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule(443, "192.0.2.0/24")])
    Path(project.workspace().store.location).unlink()
    assert command(project, capsys, "recover")[0] == 0
    (change,) = project.plan().changes
    assert [(f.path, f.before, f.after) for f in change.fields] == [
        ("allow_from", ["me"], ["198.51.100.0/24", "me"]),
        ("rules.tcp 443 from 192.0.2.0/24", "open", "closed"),
    ]
    project.apply()
    (found,) = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    assert {
        (rule.get("FromPort"), r["CidrIp"])
        for rule in found["IpPermissions"]
        for r in rule["IpRanges"]
    } == {(port, who) for port in (8786, 8787) for who in ("198.51.100.0/24", "203.0.113.7/32")}


def test_every_cluster_is_listed(
    project: Project, capsys: pytest.CaptureFixture[str], aws: Cloud
) -> None:
    project.apply()
    code, text = command(project, capsys, "list")
    assert code == 0
    assert "genomics" in text
    vms = provider().list_vms()
    assert {vm.name for vm in vms} == {"scheduler", "cpu-0", "cpu-1", "cpu-2"}
    assert all(vm.launched_at and vm.zone == "eu-west-1a" for vm in vms)


def test_stopped_vm_is_replaced(project: Project) -> None:
    project.apply()
    boto3.client("ec2").stop_instances(InstanceIds=[project.state().nodes["cpu-1"].vm])
    (change,) = project.plan().changes
    assert (change.name, change.action) == ("cpu-1", "replace")


def test_tags_change_in_place(project: Project, aws: Cloud) -> None:
    project.add_lines("cluster", 'tags = { team = "bio", stage = "test" }')
    project.apply()
    aws.clear()
    made = project.apply("cluster.tags={team='geo'}").plan
    assert made.summary == {"add": 0, "change": 5, "destroy": 0}
    tags = [vm["tags"] for vm in aws.instances()]
    assert {(t["team"], t.get("stage"), t["planapply:cluster"]) for t in tags} == {
        ("geo", None, "genomics")
    }
    assert aws.counts()["actions"]["CreateTags"] <= 3


def test_tags_of_the_group_change_in_place(project: Project, aws: Cloud) -> None:
    project.add_lines("cluster", 'tags = { team = "bio", stage = "test" }')
    project.apply()
    group = project.state().resources["security-group"].id or ""
    ec2: Any = boto3.client("ec2")
    ec2.create_tags(Resources=[group], Tags=[{"Key": "audit", "Value": "a user's own"}])

    def tags() -> dict[str, str]:
        (found,) = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
        return {
            tag["Key"]: tag["Value"]
            for tag in found["Tags"]
            if not tag["Key"].startswith("planapply:") and tag["Key"] != "Name"
        }

    assert tags() == {"team": "bio", "stage": "test", "audit": "a user's own"}
    aws.fault("DeleteTags", lost="after")
    (change, *_) = project.apply("cluster.tags={team='geo'}").plan.changes
    assert (change.name, change.action, change.reason) == (
        "security-group",
        "update",
        "fields_changed",
    )
    assert [field.path for field in change.fields] == ["tags"]
    assert tags() == {"team": "geo", "audit": "a user's own"}
    assert project.plan("cluster.tags={team='geo'}").changes == ()


def test_unknown_ids_do_not_block_termination(project: Project, aws: Cloud) -> None:
    project.apply()
    known = [record.vm for record in project.state().nodes.values()]
    strangers = ["i-0123456789abcdef0", "vm-of-nobody", "i-0fedcba9876543210"]
    aws.clear()
    unknown = provider().terminate([strangers[0], *known, *strangers[1:]])
    assert set(unknown) == set(strangers)
    assert aws.instances() == []
    assert aws.counts()["actions"]["TerminateInstances"] <= 4
    assert provider().terminate([]) == []


def test_invisible_new_vm_is_terminated(project: Project, aws: Cloud) -> None:
    aws.configure(hidden_seconds=20)
    project.apply()
    project.destroy()
    aws.advance(60)
    assert aws.instances() == []
    assert project.state().is_empty


def test_ssh_command(
    project: Project,
    aws: Cloud,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    project.apply()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command(project, capsys, "ssh", "cpu-1", "--print") == snapshot(
        (
            1,
            """\
Error: cannot log in: the VM has no key pair, and the `aws` command is not installed
  Install AWS CLI 2, which logs in through EC2 Instance Connect if the image supports it; or set
  `key_name` under [provider], which replaces the nodes.
""",
        )
    )
    aws_command = tmp_path / "aws"
    for out in ("", " >&2"):
        aws_command.write_text(f"#!/bin/sh\necho aws-cli/1.32.5 Python/3.11.7{out}\n")
        aws_command.chmod(0o755)
        code, text = command(project, capsys, "ssh", "cpu-1")
        assert (code, " ".join(text.replace(str(tmp_path), "BIN").split())) == snapshot(
            (
                1,
                "Error: cannot log in: the VM has no key pair, and `BIN/aws` is version 1.32.5 Install AWS CLI 2, which logs in through EC2 Instance Connect if the image supports it; or set `key_name` under [provider], which replaces the nodes.",
            )
        )
    aws_command.write_text("#!/bin/sh\necho aws-cli/2.15.30 Python/3.11.8\n")
    code, text = command(project, capsys, "ssh", "cpu-1", "--print")
    assert (code, text.replace(project.state().nodes["cpu-1"].vm, "i-…")) == snapshot(
        (0, "aws ec2-instance-connect ssh --instance-id i-… --os-user admin --region eu-west-1\n")
    )
    assert command(project, capsys, "ssh", "cpu-9", "--print") == snapshot(
        (
            1,
            """\
Error: the state has no node 'cpu-9'
  Nodes: scheduler, cpu-[0-2].
""",
        )
    )


def test_ssh_command_with_a_key(
    project: Project, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    boto3.client("ec2").create_key_pair(KeyName="laptop")
    project.add_lines("provider", 'key_name = "laptop"')
    project.apply()
    project.apply()  # the VMs have public addresses now
    address = project.state().nodes["scheduler"].public_address
    assert address is not None
    assert command(project, capsys, "ssh", "scheduler", "--print") == (0, f"ssh admin@{address}\n")
    assert command(project, capsys, "ssh", "scheduler", "--print", "--user", "me") == (
        0,
        f"ssh me@{address}\n",
    )
    # The command is not printed: it replaces the planapply process.
    ssh = tmp_path / "ssh"
    ssh.write_text('#!/bin/sh\necho "ssh: $*"\nexit 42\n')
    ssh.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "planapply", "ssh", "scheduler", "--file", str(project.spec)],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (42, f"ssh: admin@{address}\n", "")


@pytest.mark.parametrize(
    ("name", "user"),
    [("debian-12-amd64", "admin"), ("ubuntu/images/22", "ubuntu"), ("al2023-ami", "ec2-user")],
)
def test_ssh_user_depends_on_the_image(
    project: Project, capsys: pytest.CaptureFixture[str], name: str, user: str
) -> None:
    boto3.client("ec2").create_key_pair(KeyName="laptop")
    project.add_lines("provider", 'key_name = "laptop"')
    project.apply()
    for image in backend("eu-west-1").amis.values():
        image.name = name
    assert f"ssh {user}@" in command(project, capsys, "ssh", "scheduler", "--print")[1]


def test_allow(project: Project, aws: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    project.apply()
    aws.configure(address="198.51.100.9")
    group = project.state().resources["security-group"].id or ""

    def run_allow(*words: str) -> tuple[int, str]:
        code, text = command(project, capsys, "allow", *words)
        return code, text.replace(group, "sg-…")

    assert run_allow() == snapshot(
        (
            0,
            "The security group sg-… allows ports 8786, 8787 from 203.0.113.7/32 (me), 198.51.100.9/32 (`allow`).\n",
        )
    )
    assert run_allow("192.0.2.0/24") == snapshot(
        (
            0,
            "The security group sg-… allows ports 8786, 8787 from 203.0.113.7/32 (me), 198.51.100.9/32 (`allow`), 192.0.2.0/24 (`allow`).\n",
        )
    )
    serial = project.state().serial
    assert run_allow("192.0.2.0/24")[0] == 0
    assert project.state().serial == serial
    assert run_allow("the office") == snapshot(
        (
            1,
            """\
Error: `the office` is not a network
  Write a network such as "203.0.113.0/24", or an address.
""",
        )
    )
    allowed = project.state().resources["security-group"].detail["allowed"]
    assert allowed == ["198.51.100.9/32", "192.0.2.0/24"]
    # The network is not drift, and a change of the spec keeps it.
    assert project.plan().changes == ()
    project.apply("provider.allow_from=['10.0.0.0/8']")
    rules = boto3.client("ec2").describe_security_groups(GroupIds=[group])
    ranges = {
        r["CidrIp"]
        for rule in rules["SecurityGroups"][0]["IpPermissions"]
        for r in rule["IpRanges"]
    }
    assert ranges == {"10.0.0.0/8", "198.51.100.9/32", "192.0.2.0/24"}


def test_allow_is_refused_with_own_security_groups(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    vpc = boto3.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
    own = boto3.client("ec2").create_security_group(GroupName="x", Description="x", VpcId=vpc)
    project.apply(f"provider.security_groups=['{own['GroupId']}']")
    assert command(project, capsys, "allow") == snapshot(
        (
            1,
            """\
Error: cannot allow a network: cluster 'genomics' has no firewall managed by planapply
  Allow the network in the security groups or the firewall that the cluster uses.
""",
        )
    )
