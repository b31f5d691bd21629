"""Changes that others make in EC2: every command reports the same drift, and one apply fixes it."""

from typing import Any

import boto3
import pytest
from ec2.project import Project
from lab.honest import Cloud

from planapply.model.end_reason import EndReason
from planapply.model.plan import DriftItem, DriftKind, Mode
from planapply.ops.plan import PlanOptions, plan
from planapply.ops.status import status
from planapply.render.status import status_lines
from planapply.render.text import to_plain_text

GROUP = "security-group"


def ec2() -> Any:
    return boto3.client("ec2")


def drift(project: Project) -> list[tuple[str, str]]:
    """Return name and kind of each difference, after checking that all commands report the same."""
    found: list[tuple[DriftItem, ...]] = [
        plan(project.workspace(), PlanOptions(mode=mode)).plan.drift
        for mode in (Mode.NORMAL, Mode.REFRESH_ONLY)
    ]
    found.append(status(project.workspace()).drift)
    assert found[0] == found[1] == found[2]
    return [(item.name, item.kind.value) for item in found[0]]


def fixed_by_one_apply(project: Project) -> None:
    assert project.apply().failures == {}
    assert drift(project) == []
    assert project.plan().changes == ()


def vm_of(project: Project, name: str) -> str:
    return project.state().nodes[name].vm


def group_of(project: Project) -> str:
    return str(project.state().resources[GROUP].id)


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ({"IpRanges": [{"CidrIp": "0.0.0.0/0"}]}, "0.0.0.0/0"),
        ({"Ipv6Ranges": [{"CidrIpv6": "2001:db8::/32"}]}, "2001:db8::/32"),
    ],
)
def test_foreign_rule_is_shown_and_removed(
    project: Project, source: dict[str, Any], shown: str
) -> None:
    project.apply()
    rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, **source}
    ec2().authorize_security_group_ingress(GroupId=group_of(project), IpPermissions=[rule])
    assert drift(project) == [(GROUP, "changed")]
    (change,) = project.plan().changes
    assert (change.name, change.action) == (GROUP, "update")
    assert [(f.path, f.before, f.after) for f in change.fields] == [
        (f"rules.tcp 22 from {shown}", "open", "closed")
    ]
    fixed_by_one_apply(project)


def test_removed_rule_is_added_again(project: Project) -> None:
    project.apply()
    rule = {"IpProtocol": "tcp", "FromPort": 8786, "ToPort": 8786}
    rule["IpRanges"] = [{"CidrIp": "203.0.113.7/32"}]  # type: ignore[assignment]
    ec2().revoke_security_group_ingress(GroupId=group_of(project), IpPermissions=[rule])
    assert drift(project) == [(GROUP, "changed")]
    fixed_by_one_apply(project)


def test_revoked_outbound_traffic_is_allowed_again(project: Project) -> None:
    project.apply()
    rule: Any = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    ec2().revoke_security_group_egress(GroupId=group_of(project), IpPermissions=[rule])
    assert drift(project) == [(GROUP, "changed")]
    (change,) = project.plan().changes
    assert [(f.path, f.before, f.after) for f in change.fields] == [
        ("rules.all traffic to 0.0.0.0/0", "closed", "open")
    ]
    fixed_by_one_apply(project)


def test_vm_in_other_security_groups_is_reported_and_can_be_replaced(project: Project) -> None:
    project.apply()
    own, vm = group_of(project), vm_of(project, "cpu-1")
    vpc = ec2().describe_vpcs()["Vpcs"][0]["VpcId"]
    other = ec2().create_security_group(GroupName="x", Description="x", VpcId=vpc)["GroupId"]
    for groups in ([own, other], [other]):
        ec2().modify_instance_attribute(InstanceId=vm, Groups=groups)
        assert drift(project) == [("cpu-1", "regrouped")]
    made = project.plan()
    assert made.changes == ()
    assert [str(d) for d in made.diagnostics if d.severity == "warning"] == [
        "VMs are in other security groups than the cluster's: cpu-1\n"
        "Who can reach them is up to those groups. An apply does not move a VM: set its groups with the "
        "cloud's own tools, or launch another VM with `planapply apply --replace cpu-1`."
    ]
    shown = to_plain_text(status_lines(status(project.workspace()), 200))
    assert f"Drift: cpu-1 is in security groups {other}, not {own}. An apply does not move" in shown
    ec2().modify_instance_attribute(InstanceId=vm, Groups=[own])
    assert drift(project) == []


def test_removed_tags_of_the_group_are_restored_and_no_second_group_is_created(
    project: Project,
) -> None:
    project.apply()
    group = group_of(project)
    ec2().delete_tags(Resources=[group], Tags=[{"Key": "planapply:lineage"}, {"Key": "Name"}])
    assert drift(project) == [(GROUP, "changed")]
    fixed_by_one_apply(project)
    assert group_of(project) == group


def test_group_that_only_has_our_tags_is_not_ours(project: Project) -> None:
    project.apply()
    state = project.state()
    vpc = ec2().describe_vpcs()["Vpcs"][0]["VpcId"]
    other = ec2().create_security_group(GroupName="x", Description="x", VpcId=vpc)["GroupId"]
    own = {"planapply:cluster": state.cluster, "planapply:lineage": state.lineage}
    tags = [{"Key": key, "Value": value} for key, value in own.items()]
    ec2().create_tags(Resources=[other], Tags=tags)
    project.destroy()
    left = ec2().describe_security_groups()["SecurityGroups"]
    assert {group["GroupId"] for group in left if group["GroupName"] != "default"} == {other}


@pytest.mark.parametrize(
    ("key", "removed"),
    [("team", False), ("Name", True), ("planapply:lineage", True), ("planapply:names", False)],
)
def test_changed_and_removed_tags_are_restored(project: Project, key: str, removed: bool) -> None:
    project.add_lines("cluster", 'tags = { team = "bio" }')
    project.apply()
    vm, before = vm_of(project, "cpu-2"), project.launched()
    if removed:
        ec2().delete_tags(Resources=[vm], Tags=[{"Key": key}])
    else:
        ec2().create_tags(Resources=[vm], Tags=[{"Key": key, "Value": "other"}])
    project.clock.sleep(120.0)  # also when a VM that is not found by its tags must be visible
    assert drift(project) == [("cpu-2", "changed")]
    fixed_by_one_apply(project)
    after = project.launched()
    assert {name: vm["id"] for name, vm in after.items()} == {
        name: vm["id"] for name, vm in before.items()
    }
    # The other nodes of the batch are not recorded, so the names before this one may be others.
    changed = {k for k, v in before["cpu-2"]["tags"].items() if after["cpu-2"]["tags"].get(k) != v}
    assert changed <= {"planapply:names"}


def test_tags_of_others_and_for_display_are_no_drift(project: Project) -> None:
    project.apply()
    vm = vm_of(project, "cpu-0")
    ec2().create_tags(Resources=[vm, group_of(project)], Tags=[{"Key": "cost", "Value": "42"}])
    ec2().delete_tags(Resources=[vm], Tags=[{"Key": "planapply:state"}])
    assert drift(project) == []
    assert project.plan().changes == ()


def test_vm_terminated_in_its_first_minute_is_replaced_at_once(project: Project) -> None:
    project.apply()
    ended = vm_of(project, "cpu-1")
    ec2().terminate_instances(InstanceIds=[ended])
    assert drift(project) == [("cpu-1", "gone")]
    fixed_by_one_apply(project)
    assert vm_of(project, "cpu-1") != ended


def test_new_address_of_the_scheduler_is_recorded(project: Project) -> None:
    project.apply()
    address = ec2().allocate_address(Domain="vpc")
    vm = vm_of(project, "scheduler")
    ec2().associate_address(InstanceId=vm, AllocationId=address["AllocationId"])
    assert drift(project) == [("scheduler", "address")]
    assert project.plan().changes == ()
    serial = project.state().serial
    project.apply(mode=Mode.REFRESH_ONLY)
    assert project.state().serial == serial + 1
    endpoint = project.state().endpoint
    assert endpoint is not None
    assert str(endpoint.public).endswith(f"//{address['PublicIp']}:8786")
    assert drift(project) == []


def test_deleted_subnet_key_pair_and_group_are_reported_although_nothing_changes(
    project: Project,
) -> None:
    subnet = ec2().describe_subnets()["Subnets"][0]["SubnetId"]
    ec2().create_key_pair(KeyName="laptop")
    project.add_lines("provider", f'subnets = ["{subnet}"]\nkey_name = "laptop"')
    project.apply()
    ec2().delete_key_pair(KeyName="laptop")
    summaries = [d.summary for d in project.plan().diagnostics]
    assert summaries == ["there is no key pair 'laptop' in eu-west-1"]
    refresh_only = plan(project.workspace(), PlanOptions(mode=Mode.REFRESH_ONLY)).plan
    assert [d.summary for d in refresh_only.diagnostics] == summaries
    assert [d.summary for d in status(project.workspace()).problems] == summaries
    wrong = project.plan("provider.subnets=['subnet-0123']")
    assert "there is no subnet subnet-0123 in eu-west-1" in [d.summary for d in wrong.diagnostics]


def test_vm_with_our_tags_is_not_adopted_without_our_client_token(
    project: Project, aws: Cloud
) -> None:
    project.apply()
    stranger = ec2().run_instances(
        ImageId=ec2().describe_images()["Images"][0]["ImageId"],
        InstanceType="m6i.large",
        MinCount=1,
        MaxCount=1,
    )["Instances"][0]["InstanceId"]
    tags = aws.instances()[-2]["tags"] | {"planapply:names": "cpu-3"}
    pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
    ec2().create_tags(Resources=[stranger], Tags=pairs)
    assert drift(project) == [(stranger, "unknown")]
    assert project.apply("workers.cpu.count=4").failures == {}
    assert vm_of(project, "cpu-3") != stranger
    assert project.destroy().unknown == (stranger,)
    assert [vm["id"] for vm in aws.instances()] == [stranger]


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("reclaim", EndReason.RECLAIMED),
        ("power_off", EndReason.POWERED_OFF),
        ("terminate", EndReason.TERMINATED),
    ],
)
def test_reason_of_a_lost_vm_is_ec2s_state_reason(
    project: Project, end: str, reason: EndReason
) -> None:
    project.apply()
    vm = vm_of(project, "cpu-1")
    if end == "terminate":
        ec2().terminate_instances(InstanceIds=[vm])
    else:
        getattr(project.cloud, end)([vm])
    project.cloud.advance(120)
    item = DriftItem(name="cpu-1", kind=DriftKind.GONE, vm=vm, ended=reason)
    assert status(project.workspace()).drift == (item,)
    project.apply()
    assert [(each.vm, each.reason) for each in project.state().ended] == [(vm, reason)]
