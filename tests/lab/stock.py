"""Number of VMs that EC2 can launch: offers by zone, the account's quota, and capacity."""

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS, INSTANCE_TYPES

from lab.calls import ApiError, Params

ENDED = ("shutting-down", "terminated")


@dataclass
class Settings:
    """Settings of the cloud; patterns match as in file names."""

    region: str = "eu-west-1"
    """Region of calls without one."""
    capacity: dict[str, int] = field(default_factory=dict)
    """Most VMs at a time for `size/zone/market`; the market is `spot` or `on-demand`."""
    vcpus: dict[str, int] = field(default_factory=dict)
    """vCPU quota for `family/market`; the family is the size's first letters (`m`)."""
    unsupported: list[str] = field(default_factory=list)
    """`size/zone` that are not offered, in addition to those that EC2 really lacks."""
    hidden_calls: int = 0
    """Number of DescribeInstances calls that do not show a new VM yet."""
    hidden_seconds: float = 0.0
    pending_calls: int = 0
    pending_seconds: float = 0.0
    ending_calls: int = 0
    """Number of DescribeInstances calls that show a terminated VM as shutting-down."""
    ending_seconds: float = 0.0
    gaps: bool = True
    """Whether a partial launch leaves gaps in the AmiLaunchIndexes."""
    throttle: bool = False
    """Whether EC2's request and resource limits are enforced."""
    machines: bool = False
    """Whether each address has a machine; otherwise addresses are loopback ones without a server."""
    address: str = "203.0.113.7"
    """Response of the address service; empty: the address of the request."""


def count_available(
    settings: Settings, vms: list[Any], region: str, zone: str, params: Params
) -> int:
    """Return how many VMs can be launched: offered here, within the quota, and with capacity."""
    size, min_count = params.get("InstanceType", "m1.small"), int(params["MinCount"])
    market = params.get("InstanceMarketOptions.MarketType", "on-demand")
    family = re.sub(r"[^a-z].*", "", size)
    offered = zones_of(region, size)
    is_unsupported = any(fnmatchcase(f"{size}/{zone}", pattern) for pattern in settings.unsupported)
    if offered and (is_unsupported or zone not in offered):
        others = ", ".join(sorted(offered - {zone}))
        text = f"Your requested instance type ({size}) is not supported in your requested "
        text += f"Availability Zone ({zone}). Please retry your request by not specifying an "
        raise ApiError("Unsupported", text + f"Availability Zone or choosing {others}.")
    alive = [vm for vm in vms if vm.state not in ENDED]
    count = int(params["MaxCount"])
    for pattern, quota in settings.vcpus.items():
        if fnmatchcase(f"{family}/{market}", pattern):
            used = sum(
                vcpus(vm.instance_type) for vm in alive if fnmatchcase(quota_key(vm), pattern)
            )
            count = min(count, (quota - used) // vcpus(size))
            if count < min_count:
                raise quota_error(market, quota)
    for pattern, capacity in settings.capacity.items():
        if fnmatchcase(f"{size}/{zone}/{market}", pattern):
            count = min(
                count, capacity - sum(fnmatchcase(capacity_key(vm), pattern) for vm in alive)
            )
    if count < min_count:
        text = f"We currently do not have sufficient {size} capacity in the Availability Zone "
        raise ApiError("InsufficientInstanceCapacity", text + f"you requested ({zone}).", 500)
    return count


def quota_error(market: str, quota: int) -> ApiError:
    """Return EC2's error."""
    if market == "spot":
        return ApiError("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
    text = f"You have requested more vCPU capacity than your current vCPU limit of {quota} allows "
    return ApiError("VcpuLimitExceeded", text + "for the instance bucket that it belongs to.")


def zones_of(region: str, size: str) -> set[str]:
    """Return the zones that offer that size."""
    offers = INSTANCE_TYPE_OFFERINGS["availability-zone"].get(region, [])
    return {offer["Location"] for offer in offers if offer["InstanceType"] == size}


def vcpus(size: str) -> int:
    """Return the number of vCPUs of that size."""
    return int(INSTANCE_TYPES[size]["VCpuInfo"]["DefaultVCpus"])


def quota_key(vm: Any) -> str:
    """Return the `family/market` of a VM."""
    return f"{re.sub(r'[^a-z].*', '', vm.instance_type)}/{vm.lifecycle or 'on-demand'}"


def capacity_key(vm: Any) -> str:
    """Return the `size/zone/market` of a VM."""
    return f"{vm.instance_type}/{vm.placement.zone}/{vm.lifecycle or 'on-demand'}"
