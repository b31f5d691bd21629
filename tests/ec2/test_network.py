"""Security group of a cluster, and the network of its VMs."""

from typing import Any

import boto3
import pytest
from ec2.project import Project
from inline_snapshot import snapshot
from lab.honest import Cloud
from planapply_ec2 import PLUGIN
from planapply_ec2.address import URL_VARIABLE
from planapply_ec2.settings import Settings

from planapply.fleet import ProviderFailed
from planapply.model.diagnostics import PlanapplyError
from planapply.ops.access import allow
from planapply.provider import ErrorKind, ProviderError

GROUP = "security-group"


def ec2() -> Any:
    return boto3.client("ec2")


def groups() -> list[dict[str, Any]]:
    """Return all security groups except the VPC's default group."""
    return [
        g for g in ec2().describe_security_groups()["SecurityGroups"] if g["GroupName"] != "default"
    ]


def rules() -> list[tuple[str, int | None, str]]:
    """Return the sources and ports that the cluster's security group allows."""
    (group,) = groups()
    return sorted(
        (rule["IpProtocol"], rule.get("FromPort") or 0, who.replace(group["GroupId"], "itself"))
        for rule in group["IpPermissions"]
        for who in [
            *(r["CidrIp"] for r in rule.get("IpRanges", [])),
            *(r["CidrIpv6"] for r in rule.get("Ipv6Ranges", [])),
            *(pair["GroupId"] for pair in rule.get("UserIdGroupPairs", [])),
        ]
    )


def test_rules_allow_members_and_my_address_to_the_scheduler(project: Project, aws: Cloud) -> None:
    made = project.plan()
    first = made.changes[0]
    assert (first.name, first.kind, first.action) == (GROUP, "resource", "create")
    project.apply()
    assert rules() == snapshot(
        [("-1", 0, "itself"), ("tcp", 8786, "203.0.113.7/32"), ("tcp", 8787, "203.0.113.7/32")]
    )
    (group,) = groups()
    assert {vm["groups"][0] for vm in aws.instances()} == {group["GroupId"]}
    state = project.state()
    assert state.resources[GROUP].id == group["GroupId"]
    assert {k: v for k, v in state.resources[GROUP].detail.items() if k != "vpc"} == snapshot(
        {
            "allow_from": ["me"],
            "ports": [8786, 8787],
            "tags": {},
            "me": "203.0.113.7/32",
            "tagged": [],
        }
    )
    tags = {tag["Key"]: tag["Value"] for tag in group["Tags"]}
    assert tags["planapply:lineage"] == state.lineage
    assert tags["planapply:cluster"] == "genomics"
    actions = aws.counts()["actions"]
    assert (actions["CreateSecurityGroup"], actions["AuthorizeSecurityGroupIngress"]) == (1, 1)


def test_rules_follow_ports_and_networks_of_the_spec(project: Project) -> None:
    project.add_lines(
        "provider", 'allow_from = ["198.51.100.0/24", "2001:db8::/32"]\nkey_name = "laptop"'
    )
    project.add_lines("scheduler", 'options = { port = 9000, dashboard_address = ":9001" }')
    ec2().create_key_pair(KeyName="laptop")
    project.apply()
    assert rules() == snapshot(
        [
            ("-1", 0, "itself"),
            ("tcp", 22, "198.51.100.0/24"),
            ("tcp", 22, "2001:db8::/32"),
            ("tcp", 9000, "198.51.100.0/24"),
            ("tcp", 9000, "2001:db8::/32"),
            ("tcp", 9001, "198.51.100.0/24"),
            ("tcp", 9001, "2001:db8::/32"),
        ]
    )


def test_without_a_dashboard_its_port_stays_closed(project: Project) -> None:
    project.add_lines("scheduler", "options = { dashboard = false }")
    project.apply()
    assert [rule[1] for rule in rules()] == [0, 8786]


def test_my_address_is_looked_up_once_and_kept(project: Project, aws: Cloud) -> None:
    project.apply()
    aws.configure(address="198.51.100.99")
    assert project.apply("workers.cpu.count=4").plan.summary["change"] == 0
    assert {who for _, _, who in rules()} == {"itself", "203.0.113.7/32"}


def test_my_address_is_unknown_when_offline(
    project: Project, monkeypatch: pytest.MonkeyPatch, aws: Cloud
) -> None:
    monkeypatch.setenv(URL_VARIABLE, "http://127.0.0.1:1/")
    with pytest.raises(PlanapplyError) as raised:
        project.apply()
    assert str(raised.value) == snapshot("""\
cannot detect this machine's public address: http://127.0.0.1:1/: <urlopen error [Errno 111] Connection refused>
Check that this machine is online. Or, instead of "me", write the network that may reach the scheduler: allow_from = ["203.0.113.0/24"] under [provider].\
""")
    assert groups() == []
    assert aws.instances() == []
    # With explicit networks, no address is looked up.
    assert project.apply("provider.allow_from=['10.0.0.0/8']").failures == {}


def test_invalid_answer_is_not_taken_for_my_address(
    project: Project, monkeypatch: pytest.MonkeyPatch, aws: Cloud
) -> None:
    aws.configure(address="<html>Log in to the hotel's network</html>")
    with pytest.raises(PlanapplyError, match="cannot detect this machine's public address"):
        project.apply()
    assert groups() == []


def test_changed_networks_update_the_rules_in_place(project: Project, aws: Cloud) -> None:
    project.apply()
    aws.clear()
    report = project.apply("provider.allow_from=['me', '198.51.100.0/24']")
    (change,) = report.plan.changes
    assert (change.name, change.action) == (GROUP, "update")
    assert [field.path for field in change.fields] == ["allow_from"]
    assert rules() == snapshot(
        [
            ("-1", 0, "itself"),
            ("tcp", 8786, "198.51.100.0/24"),
            ("tcp", 8786, "203.0.113.7/32"),
            ("tcp", 8787, "198.51.100.0/24"),
            ("tcp", 8787, "203.0.113.7/32"),
        ]
    )
    assert len(aws.instances()) == 4
    assert aws.counts()["mutating"] == 1
    project.apply("provider.allow_from=['198.51.100.0/24']")
    assert {who for _, _, who in rules()} == {"itself", "198.51.100.0/24"}
    assert project.plan("provider.allow_from=['198.51.100.0/24']").changes == ()


def test_allowed_network_is_kept(project: Project, aws: Cloud) -> None:
    project.apply()
    provider = project.workspace().connect(project.state())
    assert provider.can_allow
    resource = project.state().resources[GROUP]
    aws.configure(address="198.51.100.9")
    resource = provider.allow(resource, None)
    resource = provider.allow(resource, "192.0.2.0/24")
    assert provider.allow(resource, "192.0.2.0/24") == resource
    assert resource.detail["allowed"] == ["198.51.100.9/32", "192.0.2.0/24"]
    assert rules() == snapshot(
        [
            ("-1", 0, "itself"),
            ("tcp", 8786, "192.0.2.0/24"),
            ("tcp", 8786, "198.51.100.9/32"),
            ("tcp", 8786, "203.0.113.7/32"),
            ("tcp", 8787, "192.0.2.0/24"),
            ("tcp", 8787, "198.51.100.9/32"),
            ("tcp", 8787, "203.0.113.7/32"),
        ]
    )
    with pytest.raises(ProviderFailed) as raised:
        provider.allow(resource, "the office")
    assert str(raised.value) == snapshot("""\
`the office` is not a network
Write a network such as "203.0.113.0/24", or an address.\
""")


def test_destroy_waits_until_the_group_is_unused(project: Project, aws: Cloud) -> None:
    aws.configure(ending_seconds=30)
    project.apply()
    aws.clear()
    # Network interfaces exist for a while after their VMs.
    aws.fault("DeleteSecurityGroup", error="DependencyViolation", times=3)
    project.destroy()
    assert groups() == []
    assert aws.instances() == []
    assert aws.counts()["actions"]["DeleteSecurityGroup"] == 4
    messages = [e.message for e in project.events if e.message.startswith("to remove")]
    assert messages == snapshot(
        ["to remove the security group: DeleteSecurityGroup: set by the lab (DependencyViolation)"]
    )
    assert project.state().is_empty


def test_deleting_a_missing_group_is_no_error(project: Project) -> None:
    project.apply("workers.cpu.count=0")
    provider = PLUGIN.connect(Settings(region="eu-west-1"))
    resource = project.state().resources[GROUP]
    with pytest.raises(ProviderError) as raised:
        provider.cleanup(resource)  # type: ignore[attr-defined]
    assert raised.value.kind is ErrorKind.UNAVAILABLE
    project.destroy()
    provider.cleanup(resource)  # type: ignore[attr-defined]


@pytest.mark.parametrize("action", ["CreateSecurityGroup", "AuthorizeSecurityGroupIngress"])
@pytest.mark.parametrize("lost", ["before", "after"])
def test_lost_response_creates_no_second_group(
    project: Project, aws: Cloud, action: str, lost: str
) -> None:
    aws.fault(action, lost=lost)
    assert project.apply().failures == {}
    assert len(rules()) == 3


def test_deleted_group_is_created_again(project: Project, aws: Cloud) -> None:
    project.apply("workers.cpu.count=0")
    ec2().terminate_instances(InstanceIds=[project.state().nodes["scheduler"].vm])
    aws.advance(120)
    project.clock.sleep(120)
    gone = project.state().resources[GROUP].id or ""
    ec2().delete_security_group(GroupId=gone)
    planned = project.plan("workers.cpu.count=0")
    assert [(c.name, c.action, c.reason) for c in planned.changes] == [
        (GROUP, "create", "resource_gone"),
        ("scheduler", "create", "vm_gone"),
    ]
    start = project.clock.monotonic()
    assert project.apply().failures == {}
    assert project.clock.monotonic() - start < 60.0
    (group,) = groups()
    assert {vm["groups"][0] for vm in aws.instances()} == {group["GroupId"]}
    assert project.plan().changes == ()


def test_allow_reports_a_deleted_group_and_the_next_apply_restores_it(
    project: Project, aws: Cloud
) -> None:
    project.apply("workers.cpu.count=0")
    allow(project.workspace(), "192.0.2.0/24")
    ec2().terminate_instances(InstanceIds=[project.state().nodes["scheduler"].vm])
    project.clock.sleep(120)
    gone = project.state().resources[GROUP].id or ""
    ec2().delete_security_group(GroupId=gone)
    before = project.clock.monotonic()
    with pytest.raises(PlanapplyError) as raised:
        allow(project.workspace(), "198.51.100.0/24")
    assert project.clock.monotonic() == before
    assert str(raised.value).replace(gone, "sg-…") == snapshot("""\
security group sg-… no longer exists
Run `planapply apply`: it creates another one that allows this network, too.\
""")
    with pytest.raises(PlanapplyError) as raised:
        allow(project.workspace(), "198.51.100.77")
    assert str(raised.value) == snapshot("""\
cannot allow a network: the security group of cluster 'genomics' does not exist
Create it with `planapply apply`, then run this command again.\
""")
    # The new group also allows the machine that creates it.
    aws.configure(address="203.0.113.8")
    assert project.apply().failures == {}
    networks = {"192.0.2.0/24", "198.51.100.0/24", "203.0.113.8/32"}
    assert {who for _, _, who in rules()} == {"itself", *networks}
    assert project.plan().changes == ()
    changed = allow(project.workspace(), "198.51.100.77")
    assert {who for _, _, who in rules()} == {"itself", *networks, "198.51.100.77/32"}
    assert changed == project.state().resources


def test_failed_launch_keeps_an_existing_group(project: Project, aws: Cloud) -> None:
    aws.fault("RunInstances", error="InvalidGroup.NotFound", times=None)
    assert project.apply().failures != {}
    (group,) = groups()
    assert project.state().resources[GROUP].id == group["GroupId"]
    aws.clear()
    assert project.apply().failures == {}
    # Without capacity, the group is not looked up.
    aws.clear()
    aws.fault("RunInstances", error="InsufficientInstanceCapacity", times=None)
    assert project.apply("workers.cpu.count=4").failures != {}
    assert aws.counts()["actions"]["DescribeSecurityGroups"] == 1  # by the plan


def test_group_with_invisible_tags_is_found_by_its_name(project: Project) -> None:
    project.apply("workers.cpu.count=0")
    (group,) = groups()
    provider = PLUGIN.connect(Settings(region="eu-west-1"))
    resource = project.state().resources[GROUP]
    tags = {tag["Key"]: tag["Value"] for tag in group["Tags"] if tag["Key"] != "Name"}
    lagging = {**tags, "planapply:config": "as if it did not exist"}
    again = provider.prepare(GROUP, resource, lagging)  # type: ignore[attr-defined]
    assert again == resource
    assert len(groups()) == 1


def test_own_security_groups_are_used(project: Project, aws: Cloud) -> None:
    vpc = ec2().describe_vpcs()["Vpcs"][0]["VpcId"]
    own = ec2().create_security_group(GroupName="dask", Description="dask", VpcId=vpc)["GroupId"]
    aws.clear()
    assert project.apply(f"provider.security_groups=['{own}']").failures == {}
    assert {vm["groups"][0] for vm in aws.instances()} == {own}
    assert "CreateSecurityGroup" not in aws.counts()["actions"]
    assert project.state().resources == {}


def test_unneeded_group_is_deleted(project: Project, aws: Cloud) -> None:
    project.apply()
    vpc = ec2().describe_vpcs()["Vpcs"][0]["VpcId"]
    own = ec2().create_security_group(GroupName="dask", Description="dask", VpcId=vpc)["GroupId"]
    report = project.apply(f"provider.security_groups=['{own}']")
    assert report.failures == {}
    assert [g["GroupId"] for g in groups()] == [own]
    assert project.state().resources == {}
    assert len(aws.instances()) == 4


def company(public: bool = False) -> tuple[str, dict[str, str]]:
    """Create a VPC with a private and a public subnet in two zones."""
    vpc = ec2().create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    subnets = {}
    for i, name in enumerate(("private-a", "public-a", "private-b", "public-b")):
        subnet = ec2().create_subnet(
            VpcId=vpc, CidrBlock=f"10.1.{i}.0/24", AvailabilityZone=f"eu-west-1{name[-1]}"
        )["Subnet"]["SubnetId"]
        if name.startswith("public"):
            ec2().modify_subnet_attribute(SubnetId=subnet, MapPublicIpOnLaunch={"Value": True})
        subnets[subnet] = name
    return vpc, subnets


@pytest.mark.parametrize("public", [True, False])
def test_matching_subnets_of_a_vpc_are_used(project: Project, public: bool) -> None:
    vpc, subnets = company()
    project.add_lines("provider", f'vpc = "{vpc}"\npublic_ip = {str(public).lower()}')
    project.add_lines("workers.cpu", 'zones = ["eu-west-1b"]')
    project.apply()
    calls = project.calls("RunInstances")
    kind = "public" if public else "private"
    assert [subnets[c["NetworkInterface.1.SubnetId"]] for c in calls] == [f"{kind}-a", f"{kind}-b"]
    answers = {c["NetworkInterface.1.AssociatePublicIpAddress"] for c in calls}
    assert answers == {str(public).lower()}
    assert groups()[0]["VpcId"] == vpc
    assert project.state().resources[GROUP].detail["vpc"] == vpc


def test_private_subnets_get_no_public_addresses(project: Project, aws: Cloud) -> None:
    _, subnets = company()
    chosen = [id for id, name in subnets.items() if name.startswith("private")]
    project.add_lines(
        "provider", f"subnets = {chosen}\npublic_ip = false\nallow_from = ['10.0.0.0/8']"
    )
    project.apply()
    assert {c["NetworkInterface.1.SubnetId"] for c in project.calls("RunInstances")} == {chosen[0]}
    assert {vm["public_address"] for vm in aws.instances()} == {None}
    assert project.state().endpoint is not None
    assert project.state().endpoint.public is None  # type: ignore[union-attr]
    assert rules()[1:] == snapshot([("tcp", 8786, "10.0.0.0/8"), ("tcp", 8787, "10.0.0.0/8")])


def without_a_default_vpc() -> None:
    for subnet in ec2().describe_subnets()["Subnets"]:
        ec2().delete_subnet(SubnetId=subnet["SubnetId"])
    for vpc in ec2().describe_vpcs()["Vpcs"]:
        ec2().delete_vpc(VpcId=vpc["VpcId"])


def test_missing_default_vpc_is_reported(project: Project) -> None:
    without_a_default_vpc()
    vpc, _ = company()
    assert project.plan_error().replace(vpc, "VPC") == snapshot("""\
the account has no default VPC in eu-west-1
Set `vpc` or `subnets` under [provider]; see docs/ec2.md. VPCs here: VPC (10.1.0.0/16).\
""")
    assert project.apply(f"provider.vpc='{vpc}'").failures == {}


def test_unknown_networks_are_reported(project: Project) -> None:
    default = ec2().describe_vpcs()["Vpcs"][0]["VpcId"]
    vpc, subnets = company()

    def plan_error(*overrides: str) -> str:
        text = project.plan_error(*overrides).replace(default, "DEFAULT").replace(vpc, "VPC")
        for id, name in subnets.items():
            text = text.replace(id, name)
        return text

    by_name = {name: id for id, name in subnets.items()}
    of_default = ec2().describe_subnets(Filters=[{"Name": "vpc-id", "Values": [default]}])
    other = of_default["Subnets"][0]["SubnetId"]
    assert plan_error("provider.vpc='vpc-0123'") == snapshot("""\
there is no VPC 'vpc-0123' with subnets in eu-west-1
Set `vpc` or `subnets` under [provider]. VPCs here: VPC (10.1.0.0/16), DEFAULT (172.31.0.0/16).\
""")
    assert plan_error("provider.subnets=['subnet-0123']") == snapshot("""\
there is no subnet subnet-0123 in eu-west-1
Correct `subnets` under [provider]. VPCs here: VPC (10.1.0.0/16), DEFAULT (172.31.0.0/16).\
""")
    twice = [by_name["private-a"], by_name["public-a"]]
    assert plan_error(f"provider.subnets={twice}") == snapshot("""\
`subnets` has more than one in eu-west-1a
List one subnet per zone.\
""")
    mixed = [by_name["private-a"], other]
    assert plan_error(f"provider.subnets={mixed}") == snapshot("""\
`subnets` belong to VPC, DEFAULT
List subnets of one VPC.\
""")
    assert plan_error(f"provider.subnets={mixed[:1]}", f"provider.vpc='{default}'") == snapshot("""\
`subnets` belong to VPC, but `vpc` is DEFAULT
List subnets of one VPC.\
""")
    stranger = ec2().create_security_group(GroupName="dask", Description="x", VpcId=vpc)["GroupId"]
    text = plan_error(f"provider.security_groups=['{stranger}', 'sg-0123']")
    assert text.replace(stranger, "STRANGER") == snapshot("""\
security group STRANGER belongs to VPC, but the VMs run in DEFAULT
Choose a security group of that VPC, or set `vpc` or `subnets` under [provider].
there is no security group sg-0123 in eu-west-1
Correct `security_groups` under [provider], or remove it: planapply then creates a group for the cluster.\
""")


def test_vpc_of_a_running_cluster_cannot_change(project: Project) -> None:
    project.apply()
    vpc, _ = company()
    assert project.plan_error(f"provider.vpc='{vpc}'").replace(vpc, "VPC") == snapshot("""\
cannot change `vpc` under [provider] while the cluster exists: null -> "VPC"
Restore the old value, or destroy the cluster first.\
""")


def test_open_access_needs_tls(project: Project) -> None:
    project.add_lines("cluster", 'security = "none"')
    assert project.plan_error("provider.allow_from=['0.0.0.0/0']") == snapshot("""\
cannot allow 0.0.0.0/0: with security = "none" anyone who reaches the scheduler can run code on every node
Write security = "tls" under [cluster], or allow smaller networks.\
""")
    project.plan("provider.allow_from=['10.0.0.0/8', '203.0.113.0/24']")
    project.plan("provider.allow_from=['0.0.0.0/0']", "cluster.security='tls'")


def test_invalid_network_is_reported_at_its_position(project: Project) -> None:
    """An invalid network is reported with its position, without a call to AWS."""
    project.add_lines("provider", 'allow_from = ["me", "203.0.113.1/24"]')
    with pytest.raises(PlanapplyError) as raised:
        project.workspace()
    place, _, problem = str(raised.value).partition(": ")
    assert place.endswith("planapply.toml:6:1")
    assert problem == snapshot("""\
`provider.allow_from` cannot be ["me", "203.0.113.1/24"]: `203.0.113.1/24` is an address in the network 203.0.113.0/24
Write 203.0.113.0/24 for the network, or 203.0.113.1 for the address.\
""")
