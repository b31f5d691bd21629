"""Strictness of the lab's EC2, compared with AWS's, through boto3."""

import base64
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError

from lab.honest import Cloud, Remote

SIZE = "m7i.large"
client: Callable[..., Any] = boto3.client
OWN = Config(retries={"total_max_attempts": 1, "mode": "standard"})


@pytest.fixture
def ec2(aws: Cloud) -> Any:
    return client("ec2", config=OWN)


def subnet(ec2: Any, zone: str = "eu-west-1a") -> str:
    found = ec2.describe_subnets(Filters=[{"Name": "availability-zone", "Values": [zone]}])
    return str(found["Subnets"][0]["SubnetId"])


def image(name: str = "/aws/service/debian/release/12/latest/amd64") -> str:
    return str(client("ssm").get_parameter(Name=name)["Parameter"]["Value"])


def run(ec2: Any, most: int = 1, least: int = 1, **more: Any) -> list[dict[str, Any]]:
    request = {"ImageId": image(), "InstanceType": SIZE, "SubnetId": subnet(ec2), **more}
    return list(ec2.run_instances(MinCount=least, MaxCount=most, **request)["Instances"])


def refused(call: Callable[..., Any], *args: Any, **how: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as raised:
        call(*args, **how)
    response = raised.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def described(ec2: Any, **how: Any) -> dict[str, str]:
    pages = ec2.get_paginator("describe_instances").paginate(**how)
    return {
        vm["InstanceId"]: vm["State"]["Name"]
        for page in pages
        for reservation in page["Reservations"]
        for vm in reservation["Instances"]
    }


def ids(vms: list[dict[str, Any]]) -> list[str]:
    return sorted(vm["InstanceId"] for vm in vms)


def test_launched_vms_are_not_ordered_by_index(aws: Cloud, ec2: Any) -> None:
    vms = run(ec2, 20)
    indexes = [vm["AmiLaunchIndex"] for vm in vms]
    assert sorted(indexes) == list(range(20)) != indexes
    assert {vm["index"] for vm in aws.instances()} == set(range(20))


def test_partial_launch_leaves_gaps_in_the_indexes(aws: Cloud, ec2: Any) -> None:
    aws.configure(capacity={f"{SIZE}/eu-west-1a/*": 5})
    indexes = sorted(vm["AmiLaunchIndex"] for vm in run(ec2, 20))
    assert len(indexes) == 5
    assert indexes[0] == 0
    assert indexes != list(range(5))
    assert refused(run, ec2) == ("InsufficientInstanceCapacity", 500)
    assert run(ec2, SubnetId=subnet(ec2, "eu-west-1b"))
    ec2.terminate_instances(InstanceIds=[aws.instances()[0]["id"]])
    assert len(run(ec2, 3)) == 1


def test_capacity_below_min_count_launches_nothing(aws: Cloud, ec2: Any) -> None:
    aws.configure(capacity={"*/*/spot": 2})
    spot = {"InstanceMarketOptions": {"MarketType": "spot"}}
    assert refused(run, ec2, 5, 3, **spot) == ("InsufficientInstanceCapacity", 500)
    assert aws.instances() == []
    assert len(run(ec2, 5, 3)) == 5


def test_same_token_returns_the_same_vms(aws: Cloud, ec2: Any) -> None:
    first, again = run(ec2, 3, ClientToken="a"), run(ec2, 3, ClientToken="a")
    assert ids(first) == ids(again)
    assert len(aws.instances()) == 3
    assert len(run(ec2, 3, ClientToken="b")) == 3
    assert len(aws.instances()) == 6


def test_token_with_other_parameters_is_refused(aws: Cloud, ec2: Any) -> None:
    run(ec2, 3, ClientToken="a")
    assert refused(run, ec2, 4, ClientToken="a") == ("IdempotentParameterMismatch", 400)
    assert len(aws.instances()) == 3


def test_tokens_are_separate_per_zone(aws: Cloud, ec2: Any) -> None:
    run(ec2, ClientToken="a")
    run(ec2, ClientToken="a", SubnetId=subnet(ec2, "eu-west-1b"))
    assert len(aws.instances()) == 2


def test_token_of_a_terminated_vm_is_refused(aws: Cloud, ec2: Any) -> None:
    vms = run(ec2, 2, ClientToken="a")
    ec2.terminate_instances(InstanceIds=ids(vms)[:1])
    assert refused(run, ec2, 2, ClientToken="a") == ("IdempotentInstanceTerminated", 400)
    assert len(aws.instances()) == 1


def test_failed_call_uses_up_its_token(aws: Cloud, ec2: Any) -> None:
    aws.configure(capacity={"*": 0})
    assert refused(run, ec2, ClientToken="a") == ("InsufficientInstanceCapacity", 500)
    aws.configure(capacity={})
    assert refused(run, ec2, ClientToken="a") == ("InsufficientInstanceCapacity", 500)
    assert refused(run, ec2, 2, ClientToken="a") == ("IdempotentParameterMismatch", 400)
    assert run(ec2, ClientToken="b")


def test_response_lost_after_the_call_keeps_the_vms(aws: Cloud, ec2: Any) -> None:
    aws.fault("RunInstances", lost="after")
    with pytest.raises(ConnectionClosedError):
        run(ec2, 2, ClientToken="a")
    assert len(aws.instances()) == 2
    assert ids(run(ec2, 2, ClientToken="a")) == sorted(vm["id"] for vm in aws.instances())


def test_response_lost_before_the_call_launches_nothing(aws: Cloud, ec2: Any) -> None:
    aws.fault("RunInstances", lost="before")
    with pytest.raises(ConnectionClosedError):
        run(ec2)
    assert aws.instances() == []


def test_botocore_retries_a_lost_response_with_the_same_token(aws: Cloud) -> None:
    aws.fault("RunInstances", lost="after")
    assert len(run(client("ec2"), 2)) == 2
    assert len(aws.instances()) == 2


def test_vcpu_quota(aws: Cloud, ec2: Any) -> None:
    aws.configure(vcpus={"m/on-demand": 8, "*/spot": 0})
    assert len(run(ec2, 10)) == 4
    assert refused(run, ec2) == ("VcpuLimitExceeded", 400)
    spot = {"InstanceMarketOptions": {"MarketType": "spot"}}
    assert refused(run, ec2, **spot) == ("MaxSpotInstanceCountExceeded", 400)
    assert run(ec2, InstanceType="g5.xlarge")


def test_size_not_offered_in_the_zone_is_refused(aws: Cloud, ec2: Any) -> None:
    aws.configure(unsupported=[f"{SIZE}/eu-west-1a"])
    assert refused(run, ec2) == ("Unsupported", 400)
    assert run(ec2, SubnetId=subnet(ec2, "eu-west-1b"))
    assert refused(run, ec2, InstanceType="m7i.tiny") == ("InvalidInstanceType.NotFound", 400)


def test_unknown_ids_are_refused(aws: Cloud, ec2: Any) -> None:
    assert refused(run, ec2, ImageId="ami-00000000")[0] == "InvalidAMIID.NotFound"
    assert refused(run, ec2, KeyName="lost")[0] == "InvalidKeyPair.NotFound"
    assert refused(run, ec2, SubnetId="subnet-0")[0] == "InvalidSubnetID.NotFound"
    assert refused(run, ec2, SecurityGroupIds=["sg-0"])[0] == "InvalidGroup.NotFound"
    nic = {"DeviceIndex": 0, "SubnetId": subnet(ec2), "Groups": ["sg-0"]}
    how = {"ImageId": image(), "InstanceType": SIZE, "MinCount": 1, "MaxCount": 1}
    error = refused(ec2.run_instances, NetworkInterfaces=[nic], **how)
    assert error == ("InvalidGroup.NotFound", 400)
    gone = refused(ec2.terminate_instances, InstanceIds=[ids(run(ec2))[0], "i-0123456789abcdef0"])
    assert gone == ("InvalidInstanceID.NotFound", 400)
    assert len(aws.instances()) == 1


def test_new_vm_is_not_visible_at_once(aws: Cloud, ec2: Any) -> None:
    aws.configure(hidden_calls=2)
    vms = ids(run(ec2, 2))
    assert refused(ec2.describe_instances, InstanceIds=vms) == ("InvalidInstanceID.NotFound", 400)
    assert refused(ec2.terminate_instances, InstanceIds=vms) == ("InvalidInstanceID.NotFound", 400)
    assert described(ec2) == {}
    assert described(ec2) == {}
    assert sorted(described(ec2, InstanceIds=vms)) == vms


def test_vms_are_pending_and_shutting_down_for_some_time(aws: Cloud, ec2: Any) -> None:
    aws.freeze()
    aws.configure(hidden_seconds=5, pending_seconds=20, ending_seconds=30)
    (vm,) = ids(run(ec2))
    assert described(ec2) == {}
    aws.advance(5)
    assert described(ec2) == {vm: "pending"}
    aws.advance(15)
    assert described(ec2) == {vm: "running"}
    changes = ec2.terminate_instances(InstanceIds=[vm])["TerminatingInstances"]
    assert [change["CurrentState"]["Name"] for change in changes] == ["shutting-down"]
    assert described(ec2) == {vm: "shutting-down"}
    assert described(ec2, Filters=[{"Name": "instance-state-name", "Values": ["running"]}]) == {}
    aws.advance(30)
    assert described(ec2) == {vm: "terminated"}
    again = ec2.terminate_instances(InstanceIds=[vm])["TerminatingInstances"]
    assert [change["CurrentState"]["Name"] for change in again] == ["terminated"]
    aws.advance(3700)
    assert described(ec2) == {}


def test_security_group_in_use_cannot_be_deleted(aws: Cloud, ec2: Any) -> None:
    aws.freeze()
    aws.configure(ending_seconds=10)
    group = ec2.create_security_group(GroupName="mine", Description="mine")["GroupId"]
    vms = ids(run(ec2, SecurityGroupIds=[group]))
    delete = ec2.delete_security_group
    assert refused(delete, GroupId=group) == ("DependencyViolation", 400)
    ec2.terminate_instances(InstanceIds=vms)
    assert refused(delete, GroupId=group) == ("DependencyViolation", 400)
    aws.advance(10)
    other = ec2.create_security_group(GroupName="other", Description="other")["GroupId"]
    rule = {
        "IpProtocol": "tcp",
        "FromPort": 1,
        "ToPort": 2,
        "UserIdGroupPairs": [{"GroupId": group}],
    }
    ec2.authorize_security_group_ingress(GroupId=other, IpPermissions=[rule])
    assert refused(delete, GroupId=group) == ("DependencyViolation", 400)
    delete(GroupId=other)
    delete(GroupId=group)


def test_user_data_size_is_limited(aws: Cloud, ec2: Any) -> None:
    assert refused(run, ec2, UserData=b"x" * 16385) == ("InvalidParameterValue", 400)
    assert run(ec2, UserData=b"x" * 16384)
    assert base64.b64decode(aws.instances()[0]["user_data"]) == b"x" * 16384


@pytest.mark.parametrize(
    ("key", "value", "takes"),
    [
        ("planapply:cluster", "v" * 256, True),
        ("a/b", "v", False),
        ("a b", "v", False),
        ("_index", "v", False),
        ("aws:x", "v", False),
        ("a", "v" * 257, False),
        ("a" * 129, "v", False),
    ],
)
def test_invalid_tags_are_refused(aws: Cloud, ec2: Any, key: str, value: str, takes: bool) -> None:
    tags = [{"ResourceType": "instance", "Tags": [{"Key": key, "Value": value}]}]
    more: dict[str, Any] = {
        "TagSpecifications": tags,
        "MetadataOptions": {"InstanceMetadataTags": "enabled"},
    }
    if takes:
        run(ec2, **more)
        assert aws.instances()[0]["tags"] == {key: value}
    else:
        assert refused(run, ec2, **more) == ("InvalidParameterValue", 400)


def test_filters(aws: Cloud, ec2: Any) -> None:
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "k", "Value": "v"}]}]
    one = ids(run(ec2, ClientToken="a", TagSpecifications=tags))
    spot = ids(run(ec2, InstanceMarketOptions={"MarketType": "spot"}))

    def by(name: str, value: str) -> list[str]:
        return list(described(ec2, Filters=[{"Name": name, "Values": [value]}]))

    assert by("client-token", "a") == by("tag:k", "v") == one
    assert by("instance-lifecycle", "spot") == spot
    unknown = [{"Name": "colour", "Values": ["red"]}]
    assert refused(ec2.describe_instances, Filters=unknown) == ("InvalidParameterValue", 400)
    many = [{"Name": "tag:k", "Values": [str(n) for n in range(201)]}]
    assert refused(ec2.describe_instances, Filters=many) == ("FilterLimitExceeded", 400)
    both = refused(ec2.describe_instances, InstanceIds=one, MaxResults=5)
    assert both == ("InvalidParameterCombination", 400)


def test_pages_count_instances(aws: Cloud, ec2: Any) -> None:
    vms = ids(run(ec2, 7) + run(ec2, 5))
    aws.clear()
    assert sorted(described(ec2, PaginationConfig={"PageSize": 5})) == vms
    assert aws.counts()["actions"] == {"DescribeInstances": 3}
    assert len(ec2.describe_instance_types()["InstanceTypes"]) == 100
    assert len(ec2.describe_instance_types(InstanceTypes=[SIZE, "g5.xlarge"])["InstanceTypes"]) == 2
    offers = ec2.describe_instance_type_offerings(
        LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": [SIZE]}]
    )
    assert len(offers["InstanceTypeOfferings"]) == 3


def test_request_limits(aws: Cloud, ec2: Any) -> None:
    aws.freeze()
    aws.configure(throttle=True)
    request = {"ImageId": image(), "SubnetId": subnet(ec2), "InstanceType": SIZE}
    for _ in range(5):
        ec2.run_instances(MinCount=1, MaxCount=1, **request)
    run_one = {"MinCount": 1, "MaxCount": 1, **request}
    assert refused(ec2.run_instances, **run_one) == ("RequestLimitExceeded", 503)
    aws.advance(0.5)
    ec2.run_instances(**run_one)
    assert refused(ec2.run_instances, **run_one) == ("RequestLimitExceeded", 503)


def test_resource_limits(aws: Cloud, ec2: Any) -> None:
    aws.freeze()
    aws.configure(throttle=True, capacity={"*": 1})
    run(ec2, 999)
    assert refused(run, ec2, 2) == ("RequestLimitExceeded", 503)
    aws.advance(1)
    assert refused(run, ec2, 2) == ("InsufficientInstanceCapacity", 500)


def test_faults_by_position_and_by_probability(aws: Cloud, ec2: Any) -> None:
    aws.fault("RunInstances", error="UnauthorizedOperation", status=403, at=3)
    aws.fault("Describe*", error="RequestLimitExceeded", status=503, times=None, chance=0.5)
    request = {"ImageId": image(), "InstanceType": SIZE, "MinCount": 1, "MaxCount": 1}
    ec2.run_instances(**request)
    ec2.run_instances(**request)
    assert refused(ec2.run_instances, **request) == ("UnauthorizedOperation", 403)
    ec2.run_instances(**request)
    seen = []
    for _ in range(20):
        try:
            ec2.describe_instances()
            seen.append("ok")
        except ClientError as error:
            seen.append(error.response["Error"]["Code"])
    assert set(seen) == {"ok", "RequestLimitExceeded"}
    assert [call["outcome"] for call in aws.log() if call["action"] == "DescribeInstances"] == seen


def test_web_page_in_place_of_a_response(aws: Cloud, ec2: Any) -> None:
    page = "<html><head><title>502 Bad Gateway</title></head><hr></html>"
    aws.fault("RunInstances", page=page, status=502)
    assert refused(run, ec2)[1] == 502
    assert aws.instances() == []
    aws.fault("RunInstances", page=page, status=502, lost="after")
    assert refused(run, ec2)[1] == 502
    assert len(aws.instances()) == 1


def test_calls_are_counted(aws: Cloud, ec2: Any) -> None:
    request = {"ImageId": image(), "SubnetId": subnet(ec2), "InstanceType": SIZE}
    aws.clear()
    vms = ec2.run_instances(MinCount=1, MaxCount=2, **request)["Instances"]
    ec2.terminate_instances(InstanceIds=ids(vms))
    described(ec2)
    assert aws.counts() == {
        "all": 3,
        "mutating": 2,
        "actions": {"RunInstances": 1, "TerminateInstances": 1, "DescribeInstances": 1},
    }


def test_address_service_returns_the_address(aws: Cloud) -> None:
    with urllib.request.urlopen(f"{aws.url}/_lab/checkip") as answer:
        assert answer.read() == b"203.0.113.7\n"


def test_vms_can_terminate_themselves(aws: Cloud, ec2: Any) -> None:
    ends: dict[str, Any] = {"InstanceInitiatedShutdownBehavior": "terminate"}
    (off,), (stop,), (spot,) = (ids(run(ec2, **more)) for more in (ends, {}, ends))
    aws.power_off([off, stop])
    aws.freeze()
    aws.reclaim([spot], notice=120)
    aws.advance(119)
    assert described(ec2, InstanceIds=[spot]) == {spot: "running"}
    aws.advance(1)
    assert described(ec2) == {off: "terminated", stop: "stopped", spot: "terminated"}
    assert [vm["reason"] for vm in aws.instances(live=False)] == [
        "Client.InstanceInitiatedShutdown",
        "Client.UserInitiatedShutdown",
        "Server.SpotInstanceTermination",
    ]


def test_images_are_found_at_their_documented_names(aws: Cloud, ec2: Any) -> None:
    for arch, name in (("x86_64", "amd64"), ("arm64", "arm64")):
        found = ec2.describe_images(
            ImageIds=[image(f"/aws/service/debian/release/13/latest/{name}")]
        )
        assert [(i["OwnerId"], i["Architecture"], i["Name"][:9]) for i in found["Images"]] == [
            ("136693071363", arch, "debian-13")
        ]


def test_spot_prices(aws: Cloud, ec2: Any) -> None:
    history = ec2.describe_spot_price_history(
        InstanceTypes=[SIZE, "g5.xlarge"], ProductDescriptions=["Linux/UNIX"]
    )["SpotPriceHistory"]
    prices = {(p["InstanceType"], p["AvailabilityZone"]): float(p["SpotPrice"]) for p in history}
    assert len(prices) == 6
    assert 0.02 < prices[SIZE, "eu-west-1a"] < 0.06 < prices["g5.xlarge", "eu-west-1a"] < 0.4


def test_libcloud_can_use_the_lab(aws: Cloud, ec2: Any) -> None:
    from libcloud.compute.drivers.ec2 import EC2NodeDriver

    make: Callable[..., Any] = EC2NodeDriver
    host, _, port = aws.url.removeprefix("http://").partition(":")
    for signature in ("2", "4"):
        driver: Any = make(
            "lab",
            "lab",
            secure=False,
            host=host,
            port=int(port),
            region="eu-west-1",
            signature_version=signature,
        )
        size = next(size for size in driver.list_sizes() if size.id == "m5.large")
        where = next(net for net in driver.ex_list_subnets() if "eu-west-1a" in str(net.extra))
        node = driver.create_node(
            "n", size, driver.get_image(image()), ex_subnet=where, ex_clienttoken=f"t{signature}"
        )
        assert [vm["token"] for vm in aws.instances()] == [f"t{signature}"]
        assert [found.id for found in driver.list_nodes(ex_node_ids=[node.id])] == [node.id]
        assert driver.destroy_node(node)
        assert aws.instances() == []


def test_account_id_is_returned(aws: Cloud) -> None:
    assert client("sts").get_caller_identity()["Account"] == "123456789012"
    aws.fault("sts:*", error="ExpiredToken", status=403)
    assert refused(client("sts", config=OWN).get_caller_identity) == ("ExpiredToken", 403)
    aws.fault("ssm:GetParameter", error="ThrottlingException")
    ssm = client("ssm", config=OWN)
    assert refused(ssm.get_parameter, Name="x") == ("ThrottlingException", 400)


def test_conditional_write_on_s3_has_one_winner(aws: Cloud) -> None:
    s3 = client("s3", config=OWN)
    s3.create_bucket(Bucket="states", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})

    def put(how: dict[str, str]) -> str:
        try:
            return str(s3.put_object(Bucket="states", Key="k", Body=b"x", **how)["ETag"])
        except ClientError as error:
            return str(error.response["Error"]["Code"])

    for how in ({"IfNoneMatch": "*"}, {"IfMatch": "'"}):
        if "IfMatch" in how:
            how["IfMatch"] = s3.put_object(Bucket="states", Key="k", Body=b"y")["ETag"]
        with ThreadPoolExecutor(8) as pool:
            got = list(pool.map(put, [how] * 8))
        assert sorted(got)[1:] == ["PreconditionFailed"] * 7


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("ConditionalRequestConflict", 409),
        ("PreconditionFailed", 412),
        ("InternalError", 500),
        ("SlowDown", 503),
    ],
)
def test_s3_faults_are_injected(aws: Cloud, code: str, status: int) -> None:
    s3 = client("s3", config=OWN)
    s3.create_bucket(Bucket="states", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    aws.fault("s3:PutObject", error=code, status=status)
    assert refused(s3.put_object, Bucket="states", Key="k", Body=b"x") == (code, status)
    aws.fault("s3:PutObject", lost="after")
    with pytest.raises(BotoCoreError):
        s3.put_object(Bucket="states", Key="k", Body=b"y")
    assert s3.get_object(Bucket="states", Key="k")["Body"].read() == b"y"


def test_obstore_conditional_writes(aws: Cloud) -> None:
    from obstore.exceptions import AlreadyExistsError, PreconditionError
    from obstore.store import S3Store

    s3 = client("s3")
    s3.create_bucket(Bucket="states", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    store = S3Store("states", endpoint=aws.url, client_options={"allow_http": True})
    made = store.put("k", b"1", mode="create")
    with pytest.raises(AlreadyExistsError):
        store.put("k", b"2", mode="create")
    assert made["e_tag"]
    store.put("k", b"2", mode={"e_tag": made["e_tag"]})
    with pytest.raises(PreconditionError):
        store.put("k", b"3", mode={"e_tag": made["e_tag"]})
    assert bytes(store.get("k").bytes()) == b"2"


def test_lab_runs_in_a_separate_process(tmp_path: Path) -> None:
    where = str(Path(__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-m", "lab.honest", "--seed", "7"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": where},
    ) as process:
        try:
            assert process.stdout
            remote = Remote(process.stdout.readline().strip())
            keys = {"aws_access_key_id": "lab", "aws_secret_access_key": "lab"}
            ec2 = client("ec2", "eu-west-1", endpoint_url=remote.url, config=OWN, **keys)
            remote.fault("DescribeInstances", error="RequestLimitExceeded", status=503)
            assert refused(ec2.describe_instances) == ("RequestLimitExceeded", 503)
            remote.configure(address="198.51.100.1")
            assert remote.instances() == []
            assert remote.counts()["actions"] == {"DescribeInstances": 1}
        finally:
            process.terminate()
