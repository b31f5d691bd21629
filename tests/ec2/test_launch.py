"""RunInstances: its parameters, the number of calls, and the kinds of its errors."""

import gzip
from base64 import b64decode
from typing import Any

import pytest
from ec2.project import Project, select_params
from inline_snapshot import snapshot
from lab.honest import Cloud
from planapply_ec2 import PLUGIN
from planapply_ec2.errors import CODES_BY_KIND
from planapply_ec2.launch import launch, make_parameters
from planapply_ec2.network import Network
from planapply_ec2.settings import Settings

from planapply.model.node import NodeConfig
from planapply.model.state import Choice, Resource
from planapply.provider import ErrorKind, LaunchRequest, ProviderError
from planapply.providerkit import make_alternatives

CONFIG = NodeConfig(group="cpu", cls="distributed.Nanny", size=("m6i.large",), image="ami-1")
WHERE = Network("vpc-1", {"eu-west-1a": "subnet-a", "eu-west-1b": "subnet-b"})


def request(config: NodeConfig = CONFIG, spot: bool = False, **more: Any) -> LaunchRequest:
    fields: dict[str, Any] = {
        "token": "0123456789abcdef0123",
        "names": ("cpu-0", "cpu-1"),
        "config": config,
        "choice": Choice(size="m6i.large", zone="eu-west-1b", spot=spot),
        "tags": {"Name": "genomics cpu", "team": "bio"},
        "boots": (),
        "user_data": b"#!/bin/bash\n",
        "resources": {"security-group": Resource(kind="security group", id="sg-1")},
    }
    return LaunchRequest(**(fields | more))


def test_complete_launch_call() -> None:
    assert make_parameters(request(), WHERE, "ami-1", None) == snapshot(
        {
            "ClientToken": "0123456789abcdef0123",
            "MinCount": 1,
            "MaxCount": 2,
            "ImageId": "ami-1",
            "InstanceType": "m6i.large",
            "NetworkInterfaces": [
                {
                    "DeviceIndex": 0,
                    "SubnetId": "subnet-b",
                    "AssociatePublicIpAddress": True,
                    "DeleteOnTermination": True,
                    "Groups": ["sg-1"],
                }
            ],
            "TagSpecifications": [
                {
                    "ResourceType": "instance",
                    "Tags": [
                        {"Key": "Name", "Value": "genomics cpu"},
                        {"Key": "team", "Value": "bio"},
                    ],
                },
                {
                    "ResourceType": "volume",
                    "Tags": [
                        {"Key": "Name", "Value": "genomics cpu"},
                        {"Key": "team", "Value": "bio"},
                    ],
                },
                {
                    "ResourceType": "network-interface",
                    "Tags": [
                        {"Key": "Name", "Value": "genomics cpu"},
                        {"Key": "team", "Value": "bio"},
                    ],
                },
            ],
            "InstanceInitiatedShutdownBehavior": "terminate",
            "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
            "UserData": b"#!/bin/bash\n",
        }
    )


def test_launch_call_with_all_options() -> None:
    config = CONFIG.model_copy(
        update={
            "disk": 100 * 10**9,
            "provider": {
                "public_ip": False,
                "key_name": "laptop",
                "instance_profile": "dask-nodes",
                "security_groups": ["sg-7", "sg-8"],
            },
        }
    )
    plain = make_parameters(request(), WHERE, "ami-1", None)
    made = make_parameters(request(config, spot=True), WHERE, "ami-1", "/dev/xvda")
    assert {k: v for k, v in made.items() if v != plain.get(k)} == snapshot(
        {
            "NetworkInterfaces": [
                {
                    "DeviceIndex": 0,
                    "SubnetId": "subnet-b",
                    "AssociatePublicIpAddress": False,
                    "DeleteOnTermination": True,
                    "Groups": ["sg-7", "sg-8"],
                }
            ],
            "TagSpecifications": [
                {
                    "ResourceType": "instance",
                    "Tags": [
                        {"Key": "Name", "Value": "genomics cpu"},
                        {"Key": "team", "Value": "bio"},
                    ],
                },
                {
                    "ResourceType": "volume",
                    "Tags": [
                        {"Key": "Name", "Value": "genomics cpu"},
                        {"Key": "team", "Value": "bio"},
                    ],
                },
                {
                    "ResourceType": "network-interface",
                    "Tags": [
                        {"Key": "Name", "Value": "genomics cpu"},
                        {"Key": "team", "Value": "bio"},
                    ],
                },
                {
                    "ResourceType": "spot-instances-request",
                    "Tags": [
                        {"Key": "Name", "Value": "genomics cpu"},
                        {"Key": "team", "Value": "bio"},
                    ],
                },
            ],
            "InstanceMarketOptions": {
                "MarketType": "spot",
                "SpotOptions": {
                    "SpotInstanceType": "one-time",
                    "InstanceInterruptionBehavior": "terminate",
                },
            },
            "BlockDeviceMappings": [
                {
                    "DeviceName": "/dev/xvda",
                    "Ebs": {"VolumeSize": 94, "VolumeType": "gp3", "DeleteOnTermination": True},
                }
            ],
            "KeyName": "laptop",
            "IamInstanceProfile": {"Name": "dask-nodes"},
        }
    )


def test_instance_profile_can_be_an_arn() -> None:
    arn = "arn:aws:iam::123456789012:instance-profile/dask-nodes"
    config = CONFIG.model_copy(update={"provider": {"instance_profile": arn}})
    made = make_parameters(request(config), WHERE, "ami-1", None)
    assert made["IamInstanceProfile"] == {"Arn": arn}


def test_sizes_are_tried_in_the_order_of_the_spec() -> None:
    config = CONFIG.model_copy(update={"size": ("a", "b"), "spot": "prefer"})
    tried = [(c.spot, c.size, c.zone) for c in make_alternatives(config, zones=["z1", "z2"])]
    assert tried == [
        (spot, size, zone) for spot in (True, False) for size in "ab" for zone in ("z1", "z2")
    ]
    only_spot = config.model_copy(update={"spot": True, "zones": ("z2",), "size": ("a",)})
    assert make_alternatives(only_spot, zones=["z1", "z2"]) == [
        Choice(size="a", zone="z2", spot=True)
    ]


def test_cluster_is_launched_in_two_calls(project: Project, aws: Cloud) -> None:
    report = project.apply()
    assert report.failures == {}
    scheduler, workers = project.calls("RunInstances")
    assert (scheduler["MaxCount"], workers["MaxCount"]) == ("1", "3")
    assert {call["MinCount"] for call in (scheduler, workers)} == {"1"}
    assert scheduler["ClientToken"] != workers["ClientToken"]
    launched = project.launched()
    assert list(launched) == ["scheduler", "cpu-0", "cpu-1", "cpu-2"]
    # Each VM's index in its batch selects its name, here and on the VM.
    assert [vm["index"] for vm in launched.values()] == [0, 0, 1, 2]
    state = project.state()
    tags = launched["cpu-1"]["tags"]
    assert tags == {
        "Name": "genomics cpu",
        "planapply:batch": workers["ClientToken"],
        "planapply:cluster": "genomics",
        "planapply:config": state.nodes["cpu-1"].config,
        "planapply:group": "cpu",
        "planapply:lineage": state.lineage,
        "planapply:names": "cpu-[0..2]",
        "planapply:state": state.origin,
    }
    assert state.origin.endswith(f" {project.spec.parent}/planapply.state.json")
    assert "CreateTags" not in aws.counts()["actions"]
    text = gzip.decompress(b64decode(launched["cpu-1"]["user_data"])).decode()
    assert "names=(cpu-{0..2})" in text
    assert f"tls://{launched['scheduler']['address']}:8786" in text
    assert state.tls is not None
    assert state.tls.key.get_secret_value() in text


def test_all_resources_are_tagged_at_creation(project: Project) -> None:
    project.add_lines("cluster", 'tags = { team = "bio" }')
    project.add_lines("defaults", "spot = true")
    project.apply()
    call = project.calls("RunInstances")[1]
    kinds = {v: k.split(".")[1] for k, v in call.items() if k.endswith("ResourceType")}
    assert set(kinds) == {"instance", "volume", "network-interface", "spot-instances-request"}
    for number in kinds.values():
        keys = select_params(call, f"TagSpecification.{number}.Tag").values()
        assert {"team", "bio", "planapply:lineage", "Name"} <= set(keys)


def test_large_launches_are_split_into_batches(project: Project) -> None:
    project.apply("workers.cpu.count=250")
    calls = project.calls("RunInstances")
    assert [call["MaxCount"] for call in calls[:1]] == ["1"]
    assert sorted(call["MaxCount"] for call in calls[1:]) == ["100", "100", "50"]
    assert len({call["ClientToken"] for call in calls}) == 4
    assert len(project.launched()) == 251


def test_root_disk_has_the_requested_size(project: Project) -> None:
    project.add_lines("workers.cpu", 'disk = "100 GiB"')
    project.apply()
    scheduler, workers = project.calls("RunInstances")
    assert select_params(scheduler, "BlockDevice") == {}
    assert select_params(workers, "BlockDevice") == snapshot(
        {
            "BlockDeviceMapping.1.DeviceName": "/dev/xvda",
            "BlockDeviceMapping.1.Ebs.DeleteOnTermination": "true",
            "BlockDeviceMapping.1.Ebs.VolumeSize": "100",
            "BlockDeviceMapping.1.Ebs.VolumeType": "gp3",
        }
    )


@pytest.mark.soak  # 1,040 workers, since EC2 throttles launches of more than 1,000
def test_ec2_limits_are_respected(project: Project, aws: Cloud) -> None:
    """With the lab's request and resource limits on, no call is throttled."""
    aws.configure(throttle=True)
    assert project.apply("workers.cpu.count=1040").failures == {}
    assert len(aws.instances()) == 1041
    project.destroy()
    assert aws.instances() == []
    assert [call for call in aws.log() if call["outcome"] != "ok"] == []


def test_too_large_user_data_is_not_sent(project: Project, aws: Cloud) -> None:
    provider = PLUGIN.connect(Settings(region="eu-west-1"))
    with pytest.raises(ProviderError) as raised:
        launch(provider.client, request(user_data=b"x" * 16385), WHERE)  # type: ignore[attr-defined]
    assert raised.value.kind is ErrorKind.REJECTED
    assert str(raised.value) == snapshot("""\
user data for group cpu is too large: 16,385 bytes compressed, and EC2 allows 16,384
Shorten `requirements`, `packages`, `setup`, or `options`; or use a container image (`docker`) or an `image` that has them installed.\
""")
    assert aws.counts()["all"] == 0


@pytest.mark.parametrize("lost", ["before", "after"])
def test_lost_response_launches_nothing_twice(project: Project, aws: Cloud, lost: str) -> None:
    aws.fault("RunInstances", lost=lost, at=2)
    assert project.apply().failures == {}
    assert len(aws.instances()) == 4
    calls = project.calls("RunInstances")
    assert [call["ClientToken"] for call in calls].count(calls[-1]["ClientToken"]) == 2
    assert calls[1] == calls[2] | {
        k: v for k, v in calls[1].items() if k.startswith(("X-Amz", "Signature"))
    }


@pytest.mark.parametrize(
    ("code", "status"),
    [("InternalError", 500), ("ServiceUnavailable", 503), ("Unavailable", 503)],
)
def test_server_error_is_retried_with_the_same_token(
    project: Project, aws: Cloud, code: str, status: int
) -> None:
    aws.fault("RunInstances", error=code, status=status)
    assert project.apply().failures == {}
    first, again, _ = project.calls("RunInstances")
    assert first["ClientToken"] == again["ClientToken"]
    assert len(aws.instances()) == 4


def test_used_token_is_not_reused(project: Project, aws: Cloud) -> None:
    aws.fault("RunInstances", error="IdempotentInstanceTerminated")
    assert project.apply().failures == {}
    first, second, _ = project.calls("RunInstances")
    assert first["ClientToken"] != second["ClientToken"]
    assert len(aws.instances()) == 4


def test_botocore_retries_are_disabled(project: Project, aws: Cloud) -> None:
    aws.fault("RunInstances", error="InsufficientInstanceCapacity", status=500, times=None)
    project.apply("defaults.zones=['eu-west-1a']")
    assert aws.counts()["actions"]["RunInstances"] == 1


def test_error_codes_map_to_error_kinds(project: Project, aws: Cloud) -> None:
    provider = PLUGIN.connect(Settings(region="eu-west-1"))
    seen: dict[ErrorKind, set[str]] = {}
    for codes in CODES_BY_KIND.values():
        for code in codes:
            aws.fault("RunInstances", error=code, status=500 if "Capacity" in code else 400)
            with pytest.raises(ProviderError) as raised:
                provider.launch(request())
            seen.setdefault(raised.value.kind, set()).add(code)
            assert raised.value.code == code
    assert seen == CODES_BY_KIND


def test_unknown_error_codes(project: Project, aws: Cloud) -> None:
    provider = PLUGIN.connect(Settings(region="eu-west-1"))
    for status, kind in ((400, ErrorKind.REJECTED), (500, ErrorKind.UNKNOWN)):
        aws.fault("RunInstances", error="NewInWinter", status=status)
        with pytest.raises(ProviderError) as raised:
            provider.launch(request())
        assert raised.value.kind is kind
        assert str(raised.value) == "RunInstances: set by the lab (NewInWinter)"
    # A call that only reads cannot have changed anything.
    aws.fault("DescribeInstances", error="NewInWinter", status=500)
    with pytest.raises(ProviderError) as raised:
        provider.find({})
    assert raised.value.kind is ErrorKind.UNAVAILABLE


def test_secret_part_of_an_error_is_omitted(project: Project, aws: Cloud) -> None:
    message = "You may not. Encoded authorization failure message: AbC123-very-long"
    aws.fault("RunInstances", error="UnauthorizedOperation", status=403, message=message)
    provider = PLUGIN.connect(Settings(region="eu-west-1"))
    with pytest.raises(ProviderError) as raised:
        provider.launch(request())
    assert str(raised.value) == snapshot("""\
RunInstances: You may not (UnauthorizedOperation)
Ask an administrator to allow this to your user or role; docs/ec2-iam.md has a sufficient policy.\
""")
