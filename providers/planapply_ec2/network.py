"""VPC and subnets of the VMs."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from planapply.providerkit import rejection
from planapply_ec2.client import Client
from planapply_ec2.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef, SubnetTypeDef


@dataclass(frozen=True)
class Network:
    """VPC and its subnets for VMs."""

    vpc: str
    subnets: dict[str, str]
    """IDs by zone, sorted by zone."""


def find_network(client: Client, settings: Settings) -> Network:
    """Return the network in the settings, or the default VPC.

    Raise a rejected ProviderError, which says what to set, if there is none.
    """
    return client.cache.get("network", lambda: _find_network(client, settings))


def _find_network(client: Client, settings: Settings) -> Network:
    if settings.subnets:
        subnets = _find_named_subnets(client, settings)
    else:
        vpc = settings.vpc or _find_default_vpc(client)
        subnets = _pick_subnets(_list_subnets(client, vpc), settings.public_ip)
        if not subnets:
            raise rejection(
                f"there is no VPC {vpc!r} with subnets in {client.region}",
                f"Set `vpc` or `subnets` under [provider]. {_describe_vpcs(client)}",
            )
    by_zone = {subnet["AvailabilityZone"]: subnet["SubnetId"] for subnet in subnets}
    return Network(subnets[0]["VpcId"], dict(sorted(by_zone.items())))


def _find_default_vpc(client: Client) -> str:
    with client.translate_errors():
        vpcs = client.ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])[
            "Vpcs"
        ]
    if vpcs:
        return vpcs[0]["VpcId"]
    raise rejection(
        f"the account has no default VPC in {client.region}",
        f"Set `vpc` or `subnets` under [provider]; see docs/ec2.md. {_describe_vpcs(client)}",
    )


def _list_subnets(client: Client, vpc: str) -> "list[SubnetTypeDef]":
    filters: list[FilterTypeDef] = [{"Name": "vpc-id", "Values": [vpc]}]
    with client.translate_errors():
        pages = client.ec2.get_paginator("describe_subnets").paginate(Filters=filters)
        return [subnet for page in pages for subnet in page["Subnets"]]


def _pick_subnets(subnets: "Iterable[SubnetTypeDef]", public: bool) -> "list[SubnetTypeDef]":
    """Return one subnet per zone: if `public`, a public one, else a private one; of several, the
    one with the lowest ID."""
    best: dict[str, SubnetTypeDef] = {}
    for subnet in sorted(
        subnets, key=lambda s: (s.get("MapPublicIpOnLaunch", False) is not public, s["SubnetId"])
    ):
        best.setdefault(subnet["AvailabilityZone"], subnet)
    return list(best.values())


def _find_named_subnets(client: Client, settings: Settings) -> "list[SubnetTypeDef]":
    with client.translate_errors():
        answer = client.ec2.describe_subnets(
            Filters=[{"Name": "subnet-id", "Values": list(settings.subnets)}]
        )
    subnets = answer["Subnets"]
    missing = set(settings.subnets) - {subnet["SubnetId"] for subnet in subnets}
    if missing:
        raise rejection(
            f"there is no subnet {', '.join(sorted(missing))} in {client.region}",
            f"Correct `subnets` under [provider]. {_describe_vpcs(client)}",
        )
    by_id = {subnet["SubnetId"]: subnet["VpcId"] for subnet in subnets}
    vpcs = list(dict.fromkeys(by_id[id] for id in settings.subnets))
    if len(vpcs) > 1 or (settings.vpc and vpcs != [settings.vpc]):
        raise rejection(
            f"`subnets` belong to {', '.join(vpcs)}"
            + (f", but `vpc` is {settings.vpc}" if settings.vpc else ""),
            "List subnets of one VPC.",
        )
    zones = [subnet["AvailabilityZone"] for subnet in subnets]
    if len(set(zones)) < len(zones):
        duplicates = sorted({zone for zone in zones if zones.count(zone) > 1})
        raise rejection(
            f"`subnets` has more than one in {', '.join(duplicates)}", "List one subnet per zone."
        )
    return subnets


def _describe_vpcs(client: Client) -> str:
    """Return a sentence with the VPCs to choose from."""
    with client.translate_errors():
        vpcs = client.ec2.describe_vpcs()["Vpcs"]
    names = {}
    for vpc in vpcs:
        name = next((t["Value"] for t in vpc.get("Tags", []) if t["Key"] == "Name"), "")
        names[vpc["VpcId"]] = name or vpc["CidrBlock"]
    listed = [f"{id} ({name})" for id, name in sorted(names.items(), key=lambda item: item[1])]
    return f"VPCs here: {', '.join(listed) or 'none'}."
