"""How many calls a cluster of a thousand workers costs: counts, which any machine gives alike."""

import pytest
from ec2.project import Project
from inline_snapshot import snapshot
from lab.honest import Cloud

pytestmark = pytest.mark.slow


def test_a_thousand_workers(project: Project, aws: Cloud) -> None:
    project.say("workers.cpu", 'spot = "prefer"')
    text = project.spec.read_text()
    project.write(text.replace("count = 3", "count = 1000"))
    aws.clear()
    assert project.apply().failures == {}
    made = aws.counts()
    assert len(aws.instances()) == 1001
    assert made["mutating"] <= 18
    assert made["all"] <= 60
    assert made["actions"] == snapshot(
        {
            "DescribeInstanceTypes": 1,
            "ssm:GetParameter": 1,
            "DescribeVpcs": 1,
            "DescribeSubnets": 1,
            "DescribeInstanceTypeOfferings": 1,
            "DescribeImages": 1,
            "DescribeSpotPriceHistory": 1,
            "DescribeInstances": 1,
            "sts:GetCallerIdentity": 1,
            "DescribeSecurityGroups": 1,
            "CreateSecurityGroup": 1,
            "AuthorizeSecurityGroupIngress": 1,
            "RunInstances": 11,
        }
    )
    aws.clear()
    assert project.plan().changes == ()
    unchanged = aws.counts()
    assert unchanged["mutating"] == 0
    assert unchanged["all"] <= 16
    assert unchanged["actions"] == snapshot(
        {"sts:GetCallerIdentity": 1, "DescribeInstances": 2, "DescribeSpotPriceHistory": 1}
    )
    aws.clear()
    assert project.destroy().failures == {}
    ended = aws.counts()
    assert aws.instances() == []
    assert ended["all"] <= 12
    assert ended["actions"] == snapshot(
        {
            "sts:GetCallerIdentity": 1,
            "DescribeInstances": 4,
            "DescribeSpotPriceHistory": 1,
            "TerminateInstances": 3,
            "DescribeSecurityGroups": 1,
            "DeleteSecurityGroup": 1,
        }
    )
