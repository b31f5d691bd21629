"""Documented IAM policy: it allows exactly the calls that planapply makes."""

import json
import re
from pathlib import Path
from typing import Any

import boto3
from ec2.project import Project
from lab.honest import Cloud
from planapply_ec2 import PLUGIN
from planapply_ec2.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "ec2-iam.md"
NOT_SEEN = {"iam:CreateServiceLinkedRole"}
"""Permission that AWS itself needs for an account's first spot VM."""
FREE = {"sts:GetCallerIdentity"}
"""Call that AWS allows everyone."""


def policy() -> dict[str, Any]:
    text = re.search(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert text is not None
    document: dict[str, Any] = json.loads(text[1])
    return document


def actions(statement: dict[str, Any]) -> set[str]:
    named = statement["Action"]
    return {named} if isinstance(named, str) else set(named)


def called(cloud: Cloud) -> set[str]:
    return {name if ":" in name else f"ec2:{name}" for name in cloud.counts()["actions"]}


def test_policy_lists_exactly_the_calls_of_a_life_cycle(project: Project, aws: Cloud) -> None:
    boto3.client("ec2").create_key_pair(KeyName="laptop")
    vpc = boto3.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
    aws.clear()
    project.add_lines("provider", f'key_name = "laptop"\nvpc = "{vpc}"')
    project.write(project.spec.read_text().replace('size = "m6i.large"', "cpus = 2"))
    project.add_lines("workers.cpu", "spot = true\ndisk = '100 GiB'")
    project.apply("cluster.tags={team='bio', stage='test'}")
    # As another user may do, without planapply.
    outbound: Any = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    group = str(project.state().resources["security-group"].id)
    boto3.client("ec2").revoke_security_group_egress(GroupId=group, IpPermissions=[outbound])
    project.apply("cluster.tags={team='geo'}", "provider.allow_from=['10.0.0.0/8']")
    provider: Any = PLUGIN.connect(Settings(region="eu-west-1"))
    vm = project.state().nodes["cpu-1"].vm
    provider.secrets(vm)
    provider.console(vm, 10)
    provider.list_vms()
    provider.allow(project.state().resources["security-group"], None)
    project.destroy()
    # Without a VPC in the spec, and without SSM.
    aws.fault("ssm:*", error="AccessDeniedException")
    project.write(project.spec.read_text().replace(f'vpc = "{vpc}"', ""))
    project.plan()
    allowed = set().union(*(actions(s) for s in policy()["Statement"])) - NOT_SEEN
    assert called(aws) - FREE - {"ec2:RevokeSecurityGroupEgress"} == allowed


def test_destructive_actions_need_the_tag_condition() -> None:
    """The actions that terminate or change existing resources need the condition on the tag."""
    loose = {
        action
        for statement in policy()["Statement"]
        if "Condition" not in statement
        for action in actions(statement)
    }
    assert {action for action in loose if ":Describe" not in action and ":Get" not in action} == {
        "ec2:RunInstances",
        "ec2:CreateSecurityGroup",
    }
