"""What is asked of RunInstances, how often, and what its failures mean."""

import gzip
from base64 import b64decode
from typing import Any

import pytest
from ec2.project import Project, only
from inline_snapshot import snapshot
from lab.honest import Cloud
from planapply_ec2 import PLUGIN
from planapply_ec2.errors import KINDS
from planapply_ec2.launch import alternatives, launch, parameters_of
from planapply_ec2.network import Network
from planapply_ec2.settings import Settings

from planapply.model.node import NodeConfig
from planapply.model.state import Choice, Resource
from planapply.provider import ErrorKind, LaunchRequest, ProviderError

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


def test_a_whole_call() -> None:
    assert parameters_of(request(), WHERE, "ami-1", None) == snapshot(
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


def test_spot_disk_key_profile_groups_and_no_public_address() -> None:
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
    plain = parameters_of(request(), WHERE, "ami-1", None)
    made = parameters_of(request(config, spot=True), WHERE, "ami-1", "/dev/xvda")
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


def test_an_instance_profile_may_be_an_arn() -> None:
    arn = "arn:aws:iam::123456789012:instance-profile/dask-nodes"
    config = CONFIG.model_copy(update={"provider": {"instance_profile": arn}})
    made = parameters_of(request(config), WHERE, "ami-1", None)
    assert made["IamInstanceProfile"] == {"Arn": arn}


def test_the_order_of_the_spec() -> None:
    config = CONFIG.model_copy(update={"size": ("a", "b"), "spot": "prefer"})
    tried = [(c.spot, c.size, c.zone) for c in alternatives(config, ["z1", "z2"])]
    assert tried == [
        (spot, size, zone) for spot in (True, False) for size in "ab" for zone in ("z1", "z2")
    ]
    only_spot = config.model_copy(update={"spot": True, "zones": ("z2",), "size": ("a",)})
    assert alternatives(only_spot, ["z1", "z2"]) == [Choice(size="a", zone="z2", spot=True)]


def test_a_cluster_is_launched_in_two_calls(project: Project, aws: Cloud) -> None:
    report = project.apply()
    assert report.failures == {}
    scheduler, workers = project.calls("RunInstances")
    assert (scheduler["MaxCount"], workers["MaxCount"]) == ("1", "3")
    assert {call["MinCount"] for call in (scheduler, workers)} == {"1"}
    assert scheduler["ClientToken"] != workers["ClientToken"]
    launched = project.launched()
    assert list(launched) == ["scheduler", "cpu-0", "cpu-1", "cpu-2"]
    # Each VM's place in its batch is its name, on both sides.
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
    }
    assert "CreateTags" not in aws.counts()["actions"]
    text = gzip.decompress(b64decode(launched["cpu-1"]["user_data"])).decode()
    assert "names=(cpu-{0..2})" in text
    assert f"tls://{launched['scheduler']['address']}:8786" in text
    assert state.tls is not None
    assert state.tls.key.get_secret_value() in text


def test_tags_are_on_everything_from_the_first_moment(project: Project) -> None:
    project.say("cluster", 'tags = { team = "bio" }')
    project.say("defaults", "spot = true")
    project.apply()
    call = project.calls("RunInstances")[1]
    kinds = {v: k.split(".")[1] for k, v in call.items() if k.endswith("ResourceType")}
    assert set(kinds) == {"instance", "volume", "network-interface", "spot-instances-request"}
    for number in kinds.values():
        keys = only(call, f"TagSpecification.{number}.Tag").values()
        assert {"team", "bio", "planapply:lineage", "Name"} <= set(keys)


def test_more_than_a_hundred_are_asked_in_batches(project: Project) -> None:
    project.apply("workers.cpu.count=250")
    calls = project.calls("RunInstances")
    assert [call["MaxCount"] for call in calls[:1]] == ["1"]
    assert sorted(call["MaxCount"] for call in calls[1:]) == ["100", "100", "50"]
    assert len({call["ClientToken"] for call in calls}) == 4
    assert len(project.launched()) == 251


def test_the_root_disk_has_the_size_that_was_asked(project: Project) -> None:
    project.say("workers.cpu", 'disk = "100 GiB"')
    project.apply()
    scheduler, workers = project.calls("RunInstances")
    assert only(scheduler, "BlockDevice") == {}
    assert only(workers, "BlockDevice") == snapshot(
        {
            "BlockDeviceMapping.1.DeviceName": "/dev/xvda",
            "BlockDeviceMapping.1.Ebs.DeleteOnTermination": "true",
            "BlockDeviceMapping.1.Ebs.VolumeSize": "100",
            "BlockDeviceMapping.1.Ebs.VolumeType": "gp3",
        }
    )


@pytest.mark.slow
def test_limits_of_ec2_are_kept(project: Project, aws: Cloud) -> None:
    """With the lab's request and resource buckets on, no call of many is throttled."""
    aws.configure(throttle=True)
    assert project.apply("workers.cpu.count=1040").failures == {}
    assert len(aws.instances()) == 1041
    project.destroy()
    assert aws.instances() == []
    assert [call for call in aws.log() if call["outcome"] != "ok"] == []


def test_user_data_that_is_too_large_is_not_asked(project: Project, aws: Cloud) -> None:
    provider = PLUGIN.connect(Settings(region="eu-west-1"))
    with pytest.raises(ProviderError) as httpstub:
        launch(provider.client, request(user_data=b"x" * 16385), WHERE)  # type: ignore[attr-defined]
    assert httpstub.value.kind is ErrorKind.REJECTED
    assert str(httpstub.value) == snapshot("""\
the user data of cpu has 16,385 bytes, compressed, and EC2 takes 16,384
Shorten `requirements`, `packages`, `setup` or `options`, or use a container or image that has them.\
""")
    assert aws.counts()["all"] == 0


@pytest.mark.parametrize("lost", ["before", "after"])
def test_a_lost_answer_launches_nothing_twice(project: Project, aws: Cloud, lost: str) -> None:
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
def test_an_error_on_amazons_side_is_asked_again_with_the_same_token(
    project: Project, aws: Cloud, code: str, status: int
) -> None:
    aws.fault("RunInstances", error=code, status=status)
    assert project.apply().failures == {}
    first, again, _ = project.calls("RunInstances")
    assert first["ClientToken"] == again["ClientToken"]
    assert len(aws.instances()) == 4


def test_a_spent_token_is_not_used_again(project: Project, aws: Cloud) -> None:
    aws.fault("RunInstances", error="IdempotentInstanceTerminated")
    assert project.apply().failures == {}
    first, second, _ = project.calls("RunInstances")
    assert first["ClientToken"] != second["ClientToken"]
    assert len(aws.instances()) == 4


def test_botocore_retries_nothing_by_itself(project: Project, aws: Cloud) -> None:
    aws.fault("RunInstances", error="InsufficientInstanceCapacity", status=500, times=None)
    project.apply("defaults.zones=['eu-west-1a']")
    assert aws.counts()["actions"]["RunInstances"] == 1


def test_every_code_has_its_class(project: Project, aws: Cloud) -> None:
    provider = PLUGIN.connect(Settings(region="eu-west-1"))
    seen: dict[ErrorKind, set[str]] = {}
    for kind, codes in KINDS.items():
        for code in codes:
            aws.fault("RunInstances", error=code, status=500 if "Capacity" in code else 400)
            with pytest.raises(ProviderError) as httpstub:
                provider.launch(request())
            seen.setdefault(httpstub.value.kind, set()).add(code)
            assert code in httpstub.value.summary or kind is ErrorKind.CAPACITY
    assert seen == KINDS


def test_codes_that_nobody_knows(project: Project, aws: Cloud) -> None:
    provider = PLUGIN.connect(Settings(region="eu-west-1"))
    for status, kind in ((400, ErrorKind.REJECTED), (500, ErrorKind.UNKNOWN)):
        aws.fault("RunInstances", error="NewInWinter", status=status)
        with pytest.raises(ProviderError) as httpstub:
            provider.launch(request())
        assert httpstub.value.kind is kind
        assert str(httpstub.value) == "RunInstances: set by the lab (NewInWinter)"
    # Nothing can have been changed by what only reads.
    aws.fault("DescribeInstances", error="NewInWinter", status=500)
    with pytest.raises(ProviderError) as httpstub:
        provider.find({})
    assert httpstub.value.kind is ErrorKind.UNAVAILABLE


def test_a_secret_part_of_a_refusal_is_left_out(project: Project, aws: Cloud) -> None:
    message = "You may not. Encoded authorization failure message: AbC123-very-long"
    aws.fault("RunInstances", error="UnauthorizedOperation", status=403, message=message)
    provider = PLUGIN.connect(Settings(region="eu-west-1"))
    with pytest.raises(ProviderError) as httpstub:
        provider.launch(request())
    assert str(httpstub.value) == snapshot("""\
RunInstances: You may not (UnauthorizedOperation)
Somebody must allow it to your user or role; the policy that is enough stands in planapply's docs, docs/ec2-iam.md.\
""")
