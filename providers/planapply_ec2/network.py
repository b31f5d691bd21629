"""Which VPC, and which subnet in which zone."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from planapply.provider import ErrorKind, ProviderError
from planapply_ec2.client import Client
from planapply_ec2.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef, SubnetTypeDef


@dataclass(frozen=True)
class Network:
    """Where VMs can be."""

    vpc: str
    subnets: dict[str, str]
    """By zone, in the order of the zones' names."""


def network(client: Client, settings: Settings) -> Network:
    """As the settings say, or the default VPC; asked once in a process.

    Raises ProviderError, which says what to set, where there is none.
    """
    return client.remember("network", lambda: _network(client, settings))


def _network(client: Client, settings: Settings) -> Network:
    if settings.subnets:
        found = _named(client, settings)
    else:
        vpc = settings.vpc or _default(client)
        found = _best(_subnets(client, vpc), settings.public_ip)
        if not found:
            raise _rejected(
                f"there is no VPC {vpc!r} with subnets in {client.region}",
                f"{_vpcs(client)} Write one as `vpc`, or `subnets`, under [provider].",
            )
    by_zone = {subnet["AvailabilityZone"]: subnet["SubnetId"] for subnet in found}
    return Network(found[0]["VpcId"], dict(sorted(by_zone.items())))


def _default(client: Client) -> str:
    with client.asking():
        vpcs = client.ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])[
            "Vpcs"
        ]
    if vpcs:
        return vpcs[0]["VpcId"]
    raise _rejected(
        f"the account has no default VPC in {client.region}",
        f"{_vpcs(client)} Write `vpc` or `subnets` under [provider]; see docs/ec2.md.",
    )


def _subnets(client: Client, vpc: str) -> "list[SubnetTypeDef]":
    filters: list[FilterTypeDef] = [{"Name": "vpc-id", "Values": [vpc]}]
    with client.asking():
        pages = client.ec2.get_paginator("describe_subnets").paginate(Filters=filters)
        return [subnet for page in pages for subnet in page["Subnets"]]


def _best(subnets: "Iterable[SubnetTypeDef]", public: bool) -> "list[SubnetTypeDef]":
    """One for each zone: a public one for public addresses, else a private one, by lowest id."""
    best: dict[str, SubnetTypeDef] = {}
    for subnet in sorted(
        subnets, key=lambda s: (s.get("MapPublicIpOnLaunch", False) is not public, s["SubnetId"])
    ):
        best.setdefault(subnet["AvailabilityZone"], subnet)
    return list(best.values())


def _named(client: Client, settings: Settings) -> "list[SubnetTypeDef]":
    with client.asking():
        answer = client.ec2.describe_subnets(
            Filters=[{"Name": "subnet-id", "Values": list(settings.subnets)}]
        )
    found = answer["Subnets"]
    missing = set(settings.subnets) - {subnet["SubnetId"] for subnet in found}
    if missing:
        raise _rejected(
            f"there is no subnet {', '.join(sorted(missing))} in {client.region}",
            f"{_vpcs(client)} Put `subnets` under [provider] right.",
        )
    by_id = {subnet["SubnetId"]: subnet["VpcId"] for subnet in found}
    vpcs = list(dict.fromkeys(by_id[id] for id in settings.subnets))
    if len(vpcs) > 1 or (settings.vpc and vpcs != [settings.vpc]):
        raise _rejected(
            f"`subnets` are of {', '.join(vpcs)}"
            + (f", and `vpc` is {settings.vpc}" if settings.vpc else ""),
            "Name subnets of one VPC.",
        )
    zones = [subnet["AvailabilityZone"] for subnet in found]
    if len(set(zones)) < len(zones):
        twice = sorted({zone for zone in zones if zones.count(zone) > 1})
        raise _rejected(
            f"`subnets` has more than one in {', '.join(twice)}", "Name one for each zone."
        )
    return found


def _vpcs(client: Client) -> str:
    """What there is to choose from."""
    with client.asking():
        vpcs = client.ec2.describe_vpcs()["Vpcs"]
    names = {}
    for vpc in vpcs:
        name = next((t["Value"] for t in vpc.get("Tags", []) if t["Key"] == "Name"), "")
        names[vpc["VpcId"]] = name or vpc["CidrBlock"]
    listed = [f"{id} ({name})" for id, name in sorted(names.items(), key=lambda item: item[1])]
    return f"VPCs here: {', '.join(listed) or 'none'}."


def _rejected(summary: str, detail: str) -> ProviderError:
    return ProviderError(ErrorKind.REJECTED, summary, detail)
