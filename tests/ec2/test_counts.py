"""Number of calls for a thousand workers; an overloaded machine may repeat one."""

import pytest
from ec2.project import Project
from lab.honest import Cloud
from order import few

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("count", few([100, 1000], 1))
def test_call_counts_of_many_workers(project: Project, aws: Cloud, count: int) -> None:
    """The bounds are the same for any number of workers that one call can launch."""
    project.add_lines("workers.cpu", 'spot = "prefer"')
    text = project.spec.read_text()
    project.write(text.replace("count = 3", f"count = {count}"))
    aws.clear()
    assert project.apply().failures == {}
    made = aws.counts()
    assert len(aws.instances()) == count + 1
    assert made["mutating"] <= 18
    assert made["all"] <= 60
    assert set(made["actions"]) == {
        "DescribeInstanceTypes",
        "ssm:GetParameter",
        "DescribeVpcs",
        "DescribeSubnets",
        "DescribeInstanceTypeOfferings",
        "DescribeImages",
        "DescribeSpotPriceHistory",
        "DescribeInstances",
        "sts:GetCallerIdentity",
        "DescribeSecurityGroups",
        "CreateSecurityGroup",
        "AuthorizeSecurityGroupIngress",
        "RunInstances",
    }
    aws.clear()
    assert project.plan().changes == ()
    unchanged = aws.counts()
    assert unchanged["mutating"] == 0
    assert unchanged["all"] <= 16
    assert set(unchanged["actions"]) == {
        "sts:GetCallerIdentity",
        "DescribeInstances",
        "DescribeSecurityGroups",
        "DescribeSpotPriceHistory",
    }
    aws.clear()
    assert project.destroy().failures == {}
    ended = aws.counts()
    assert aws.instances() == []
    assert ended["all"] <= 12
    assert set(ended["actions"]) == {
        "sts:GetCallerIdentity",
        "DescribeInstances",
        "DescribeSpotPriceHistory",
        "TerminateInstances",
        "DescribeSecurityGroups",
        "DeleteSecurityGroup",
    }
