"""Alternatives: the order in which they are tried, and errors that stop a launch."""

from ec2.project import Project
from inline_snapshot import snapshot
from lab.ec2 import backend
from lab.honest import Cloud
from lab.stock import zones_of

SIZES = 'size = ["m6i.large", "m5.large"]'


def tried(project: Project) -> list[str]:
    """Return the launches as size/zone/market*count."""

    def zone(call: dict[str, str]) -> str:
        subnet = backend("eu-west-1").get_subnet(call["NetworkInterface.1.SubnetId"])
        return str(subnet.availability_zone)[-1]

    return [
        f"{call['InstanceType']}/{zone(call)}/"
        f"{call.get('InstanceMarketOptions.MarketType', 'on-demand')}*{call['MaxCount']}"
        for call in project.calls("RunInstances")
    ]


def test_sizes_then_markets_are_tried_with_a_new_token_each(project: Project, aws: Cloud) -> None:
    aws.configure(capacity={"*/*/spot": 0, "m6i.large/*/on-demand": 1})
    project.add_lines("workers.cpu", f'{SIZES}\nspot = "prefer"')
    assert project.apply().failures == {}
    assert tried(project) == snapshot(
        [
            "m6i.large/a/on-demand*1",
            "m6i.large/a/spot*3",
            "m5.large/a/spot*3",
            "m6i.large/a/on-demand*3",
            "m5.large/a/on-demand*3",
        ]
    )
    tokens = [call["ClientToken"] for call in project.calls("RunInstances")]
    assert len(set(tokens)) == len(tokens)
    assert {vm["market"] for vm in aws.instances()} == {"on-demand"}


def test_zones_are_tried_in_the_order_of_the_spec(project: Project, aws: Cloud) -> None:
    aws.configure(capacity={"*/eu-west-1c/*": 2, "*/eu-west-1b/*": 0})
    project.add_lines("workers.cpu", 'zones = ["eu-west-1c", "eu-west-1b", "eu-west-1a"]')
    assert project.apply().failures == {}
    assert tried(project) == snapshot(
        [
            "m6i.large/a/on-demand*1",
            "m6i.large/c/on-demand*3",
            "m6i.large/b/on-demand*1",
            "m6i.large/a/on-demand*1",
        ]
    )


def test_partial_capacity_is_used_and_the_rest_is_requested_elsewhere(
    project: Project, aws: Cloud
) -> None:
    """Check that names follow the indexes, in which a partial launch leaves gaps."""
    aws.configure(capacity={"m6i.large/eu-west-1a/spot": 4})
    project.add_lines("workers.cpu", f"{SIZES}\nspot = true")
    assert project.apply("workers.cpu.count=10").failures == {}
    assert tried(project) == snapshot(
        ["m6i.large/a/on-demand*1", "m6i.large/a/spot*10", "m5.large/a/spot*6"]
    )
    launched = project.launched()
    assert list(launched) == ["scheduler", *(f"cpu-{i}" for i in range(10))]
    sizes = sorted(vm["size"] for name, vm in launched.items() if name != "scheduler")
    assert sizes == ["m5.large"] * 6 + ["m6i.large"] * 4


def test_quota_error_tries_the_next_choice(project: Project, aws: Cloud) -> None:
    aws.configure(vcpus={"*/spot": 0})
    project.add_lines("workers.cpu", 'spot = "prefer"')
    assert project.apply().failures == {}
    assert tried(project) == snapshot(
        ["m6i.large/a/on-demand*1", "m6i.large/a/spot*3", "m6i.large/a/on-demand*3"]
    )


def test_size_missing_in_a_zone_tries_the_next_zone(project: Project, aws: Cloud) -> None:
    aws.configure(unsupported=["m6i.large/*"])
    project.add_lines("workers.cpu", SIZES)
    assert project.apply("scheduler.size='m5.large'").failures == {}
    assert tried(project) == snapshot(
        ["m5.large/a/on-demand*1", "m6i.large/a/on-demand*3", "m5.large/a/on-demand*3"]
    )


def test_workers_stay_in_the_schedulers_zone(project: Project, aws: Cloud) -> None:
    aws.configure(capacity={"m6i.large/eu-west-1a/*": 0})
    assert project.apply().failures == {}
    assert {vm["zone"] for vm in aws.instances()} == {"eu-west-1b"}
    aws.configure(capacity={"m6i.large/eu-west-1b/*": 5})
    failures = project.apply("workers.cpu.count=9").failures
    assert len(failures) == 5
    assert str(next(iter(failures.values()))).partition(": ")[2] == snapshot("""\
EC2 launched only 1 of 6 on-demand VMs (m6i.large) in eu-west-1b
Try again later, or add sizes to `size` (nodes whose size stays in the list are kept), or add `zones`, which replaces the group's running nodes.\
""")
    assert {vm["zone"] for vm in aws.instances()} == {"eu-west-1b"}
    aws.configure(capacity={})
    assert project.apply("workers.cpu.count=9").failures == {}
    assert {vm["zone"] for vm in aws.instances()} == {"eu-west-1b"}
    assert len(aws.instances()) == 10


def test_scheduler_is_placed_in_a_zone_that_offers_every_size(project: Project, aws: Cloud) -> None:
    assert zones_of("eu-west-1", "a1.large") == {"eu-west-1b", "eu-west-1c"}
    project.add_lines("workers.cpu", 'size = "a1.large"')
    assert project.apply().failures == {}
    assert {vm["zone"] for vm in aws.instances()} == {"eu-west-1b"}


def test_refusal_is_reported_at_once(project: Project, aws: Cloud) -> None:
    for code, status in (("UnauthorizedOperation", 403), ("InvalidParameterValue", 400)):
        aws.clear()
        aws.fault("RunInstances", error=code, status=status, times=None)
        failures = project.apply("defaults.spot='prefer'").failures
        assert aws.counts()["actions"]["RunInstances"] == 1
        assert set(failures) == {"scheduler", "cpu-0", "cpu-1", "cpu-2"}
        assert code in str(failures["scheduler"])
        assert str(failures["cpu-0"]) == "cpu-0 was not launched: the cluster has no scheduler"
    assert project.state().nodes == {}


def test_quota_of_zero_is_reported(project: Project, aws: Cloud) -> None:
    aws.configure(vcpus={"*": 0})
    failures = project.apply("defaults.zones=['eu-west-1a']").failures
    assert str(failures["scheduler"]) == snapshot("""\
scheduler: RunInstances: You have requested more vCPU capacity than your current vCPU limit of 0 allows for the instance bucket that it belongs to (VcpuLimitExceeded) [m6i.large, eu-west-1a, on-demand]
Request an increase in AWS's Service Quotas, or choose another size, region, or market (`spot`).\
""")
    assert aws.instances() == []
    # The security group is in the state, and destroy deletes it.
    assert list(project.state().resources) == ["security-group"]
    project.destroy()
    assert project.state().resources == {}


def test_throttling_is_retried(project: Project, aws: Cloud) -> None:
    aws.fault("*Instances", error="RequestLimitExceeded", status=503, times=6)
    assert project.apply().failures == {}
    assert len(aws.instances()) == 4
