"""Security group of a cluster with running VMs, on the lab's EC2."""

from pathlib import Path

import boto3
import pytest
from conformance.subjects import Account, libcloud_ec2
from inline_snapshot import snapshot

from planapply.provider import ErrorKind, ProviderError


def test_running_vms_join_and_leave_the_group(tmp_path: Path) -> None:
    with libcloud_ec2(tmp_path) as subject:
        account = Account(subject)
        [vm] = account.launch("cpu-0").vms
        account.wait_until(lambda: [vm.status for vm in account.find()] == ["running"])
        tags = {"planapply:cluster": account.state.cluster, **account.tags}
        [(name, wanted)] = account.provider.required_resources(
            account.state.cluster, subject.worker
        ).items()

        def groups() -> list[str]:
            with account.provider.client.borrow_driver() as lib:
                [node] = lib.list_nodes(ex_node_ids=[vm.id])
            return [group["group_name"] for group in node.extra["groups"]]

        assert groups() == ["default"]
        made = account.provider.prepare(name, wanted, tags)
        own = f"planapply {account.state.cluster} {account.state.lineage}"
        assert groups() == ["default", own]
        assert account.provider.prepare(name, wanted, tags) == made
        with pytest.raises(ProviderError) as raised:
            account.provider.cleanup(made)
        assert raised.value.kind is ErrorKind.UNAVAILABLE
        assert groups() == ["default"]
        account.provider.cleanup(made)
        gone = account.provider.allow(made, "192.0.2.0/24")
        assert (gone.id, gone.detail["allowed"]) == (None, ["192.0.2.0/24"])

        account.state.resources = {name: account.provider.prepare(name, wanted, tags)}
        [vm] = account.launch("cpu-1").vms
        assert groups() == [own]
        account.wait_until(lambda: vm.id in {vm.id for vm in account.find()})
        with pytest.raises(ProviderError):
            account.provider.cleanup(account.state.resources[name])
        assert groups() == ["default"]
        # A VM that planapply did not create is named.
        group = account.state.resources[name].id or ""
        ec2 = boto3.client("ec2")
        image = ec2.describe_images()["Images"][0]["ImageId"]
        [box] = ec2.run_instances(
            ImageId=image,
            InstanceType="m6i.large",
            SecurityGroupIds=[group],
            MinCount=1,
            MaxCount=1,
            TagSpecifications=[
                {"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "box"}]}
            ],
        )["Instances"]
        with pytest.raises(ProviderError) as raised:
            account.provider.cleanup(account.state.resources[name])
        output = str(raised.value).replace(group, "sg-…").replace(box["InstanceId"], "i-…")
        assert output == snapshot("""\
security group sg-… is in use by box (i-…)
Detach what planapply did not create from it, then retry.\
""")
        ec2.terminate_instances(InstanceIds=[box["InstanceId"]])
        account.terminate_all()


def test_vms_require_version_2_of_the_metadata_service(tmp_path: Path) -> None:
    with libcloud_ec2(tmp_path) as subject:
        account = Account(subject)
        [vm] = account.launch("cpu-0").vms
        [group] = boto3.client("ec2").describe_instances(InstanceIds=[vm.id])["Reservations"]
        options = group["Instances"][0]["MetadataOptions"]
        assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 1)
