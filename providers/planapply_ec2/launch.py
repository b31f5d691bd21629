"""One RunInstances for a whole batch."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from planapply.model.node import VM, NodeConfig
from planapply.model.state import Choice
from planapply.provider import ErrorKind, LaunchRequest, LaunchResult, ProviderError
from planapply_ec2 import image, sizes
from planapply_ec2.client import Client
from planapply_ec2.errors import ADVICE_CAPACITY
from planapply_ec2.find import parse_vm
from planapply_ec2.group import RESOURCE_NAME as GROUP
from planapply_ec2.network import Network

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import RunInstancesRequestTypeDef

MAX_USER_DATA = 16384
"""Bytes; EC2 takes no more."""
GIB = 1 << 30


def alternatives(config: NodeConfig, zones: Sequence[str]) -> list[Choice]:
    """Each size in each zone, in the order of the spec; all as spot before any on demand."""
    markets = [True, False] if config.spot == "prefer" else [bool(config.spot)]
    return [
        Choice(size=size, zone=zone, spot=spot)
        for spot in markets
        for size in config.size or sizes.DEFAULT_SIZES[:1]
        for zone in config.zones or zones
    ]


def launch(client: Client, request: LaunchRequest, network: Network) -> LaunchResult:
    """Ask for all of them, and take as many as EC2 has; raises ProviderError where it has none."""
    config = request.config
    if len(request.user_data) > MAX_USER_DATA:
        raise ProviderError(
            ErrorKind.REJECTED,
            f"the user data of {config.group} has {len(request.user_data):,} bytes, compressed, "
            f"and EC2 takes {MAX_USER_DATA:,}",
            "Shorten `requirements`, `packages`, `setup` or `options`, or use a container or image "
            "that has them.",
        )
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
    """The call, the same one each time for one request: pure. `root` is needed for a disk."""
    config, choice = request.config, request.choice
    subnet = network.subnets.get(choice.zone or "")
    if subnet is None:
        raise ProviderError(
            ErrorKind.REJECTED,
            f"there is no subnet in {choice.zone}",
            f"There are some in {', '.join(network.subnets)}.",
        )
    settings = config.provider
    own_group = request.resources.get(GROUP)
    groups = settings.get("security_groups") or (
        [own_group.id] if own_group and own_group.id else []
    )
    resources = ["instance", "volume", "network-interface"]
    resources += ["spot-instances-request"] if choice.spot else []
    tags = [{"Key": key, "Value": value} for key, value in request.tags.items()]
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
        # Version 2 only, and not from a container's own network: user data is a secret.
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
    """Who may log in, and what the VM may do in AWS."""
    parameters: dict[str, Any] = {}
    if key := settings.get("key_name"):
        parameters["KeyName"] = key
    if profile := settings.get("instance_profile"):
        kind = "Arn" if profile.startswith("arn:") else "Name"
        parameters["IamInstanceProfile"] = {kind: profile}
    return parameters


def _add_choice(error: ProviderError, choice: Choice) -> ProviderError:
    """With what was asked for, which EC2's words often leave out."""
    choice_parts = [choice.size, choice.zone, "spot" if choice.spot else "on demand"]
    missing = [part for part in choice_parts if part and part not in error.summary]
    if error.kind not in (ErrorKind.CAPACITY, ErrorKind.QUOTA) or not missing:
        return error
    return ProviderError(error.kind, f"{error.summary} [{', '.join(missing)}]", error.detail)


def _shortfall(vms: Sequence[VM], request: LaunchRequest) -> ProviderError | None:
    if len(vms) == len(request.names):
        return None
    choice = request.choice
    market = "spot" if choice.spot else "on-demand"
    return ProviderError(
        ErrorKind.CAPACITY,
        f"EC2 had {len(vms)} of {len(request.names)} {market} {choice.size} in {choice.zone}",
        ADVICE_CAPACITY,
    )
