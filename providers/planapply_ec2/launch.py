"""Launch of a batch by one RunInstances call."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from planapply.provider import ErrorKind, LaunchRequest, LaunchResult, ProviderError
from planapply.providerkit import GIB, TAG_STATE, VM, Choice, check_user_data, rejection
from planapply_ec2 import image
from planapply_ec2.check import MAX_TAGS
from planapply_ec2.client import Client
from planapply_ec2.errors import ADVICE_CAPACITY
from planapply_ec2.find import parse_vm
from planapply_ec2.group import RESOURCE_NAME as GROUP
from planapply_ec2.network import Network

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import RunInstancesRequestTypeDef

MAX_USER_DATA = 16384
"""Bytes; EC2's limit."""


def launch(client: Client, request: LaunchRequest, network: Network) -> LaunchResult:
    """Launch as many VMs as EC2 has capacity for; raise ProviderError if it has none."""
    config = request.config
    check_user_data(request, MAX_USER_DATA, "EC2")
    ami = config.image or image.pins(client, config)["image"]
    root = image.describe(client, ami).root if config.disk else None
    parameters = make_parameters(request, network, ami, root)
    try:
        with client.translate_errors(writes=True):
            answer = client.ec2.run_instances(**parameters)
    except ProviderError as error:
        raise _add_choice(error, request.choice) from error
    not_terminated = (i for i in answer["Instances"] if i["State"]["Name"] != "terminated")
    vms = tuple(sorted(map(parse_vm, not_terminated), key=lambda vm: vm.index))
    return LaunchResult(vms, _shortfall(vms, request))


def make_parameters(
    request: LaunchRequest, network: Network, ami: str, root: str | None
) -> "RunInstancesRequestTypeDef":
    """Return the call's parameters, always the same for one request: pure.

    `root` is the image's root device; it is needed if the config has a disk.
    """
    config, choice = request.config, request.choice
    subnet = network.subnets.get(choice.zone or "")
    if subnet is None:
        raise rejection(
            f"there is no subnet in zone {choice.zone}",
            f"Choose from the zones with subnets: {', '.join(network.subnets)}.",
        )
    settings = config.provider
    own_group = request.resources.get(GROUP)
    groups = settings.get("security_groups") or (
        [own_group.id] if own_group and own_group.id else []
    )
    resources = ["instance", "volume", "network-interface"]
    resources += ["spot-instances-request"] if choice.spot else []
    all_tags = dict(request.tags)
    if len(all_tags) > MAX_TAGS:
        del all_tags[TAG_STATE]  # for display only
    tags = [{"Key": key, "Value": value} for key, value in all_tags.items()]
    parameters: dict[str, Any] = {
        "ClientToken": request.token,
        "MinCount": 1,
        "MaxCount": len(request.names),
        "ImageId": ami,
        "InstanceType": choice.size,
        "NetworkInterfaces": [
            {
                "DeviceIndex": 0,
                "SubnetId": subnet,
                "AssociatePublicIpAddress": settings.get("public_ip", True),
                "DeleteOnTermination": True,
                **({"Groups": list(groups)} if groups else {}),
            }
        ],
        "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in resources],
        "InstanceInitiatedShutdownBehavior": "terminate",
        # Only version 2, and not from a container's network: user data is secret.
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
    }
    if request.user_data:
        parameters["UserData"] = request.user_data
    if choice.spot:
        parameters["InstanceMarketOptions"] = {
            "MarketType": "spot",
            "SpotOptions": {
                "SpotInstanceType": "one-time",
                "InstanceInterruptionBehavior": "terminate",
            },
        }
    if config.disk and root:
        disk = {
            "VolumeSize": math.ceil(config.disk / GIB),
            "VolumeType": "gp3",
            "DeleteOnTermination": True,
        }
        parameters["BlockDeviceMappings"] = [{"DeviceName": root, "Ebs": disk}]
    return parameters | _make_access_parameters(settings)  # type: ignore[return-value]


def _make_access_parameters(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters for logins, and for the VM's permissions in AWS."""
    parameters: dict[str, Any] = {}
    if key := settings.get("key_name"):
        parameters["KeyName"] = key
    if profile := settings.get("instance_profile"):
        kind = "Arn" if profile.startswith("arn:") else "Name"
        parameters["IamInstanceProfile"] = {kind: profile}
    return parameters


def _add_choice(error: ProviderError, choice: Choice) -> ProviderError:
    """Return the error with size, zone, and market, which EC2's messages often omit."""
    if error.kind not in (ErrorKind.CAPACITY, ErrorKind.QUOTA):
        return error
    summary = f"{error.summary} [{choice.size}, {choice.zone}, {_market(choice)}]"
    return ProviderError(error.kind, summary, error.detail, code=error.code)


def _shortfall(vms: Sequence[VM], request: LaunchRequest) -> ProviderError | None:
    if len(vms) == len(request.names):
        return None
    choice = request.choice
    return ProviderError(
        ErrorKind.CAPACITY,
        f"EC2 launched only {len(vms)} of {len(request.names)} {_market(choice)} VMs "
        f"({choice.size}) in {choice.zone}",
        ADVICE_CAPACITY,
    )


def _market(choice: Choice) -> str:
    return "spot" if choice.spot else "on-demand"
