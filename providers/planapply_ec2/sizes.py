"""What sizes there are, and where."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from planapply.provider import ErrorKind, ProviderError
from planapply_ec2.client import Client
from planapply_ec2.price import on_demand

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef, InstanceTypeInfoTypeDef

DEFAULTS = ("m7i.large", "m6i.large", "m5.large")
"""In place of no size at all: the first that the region has, and whose price is known."""


@dataclass(frozen=True)
class Size:
    """What EC2 calls an instance type."""

    name: str
    arch: str
    cpus: int
    memory: int
    """Bytes."""
    gpus: int = 0
    """Of NVIDIA's, which is what CUDA runs on."""
    accelerated: bool = False
    """Whether it has processors of any other kind, which cost."""
    burstable: bool = False


def known(client: Client, names: Iterable[str]) -> dict[str, Size]:
    """These sizes, asked once in a process; raises ProviderError for those that don't exist."""
    asked = sorted(set(names))
    found = client.remember(
        f"sizes {asked}",
        lambda: {size.name: size for size in find(client, [_filter("instance-type", asked)])},
    )
    missing = [name for name in asked if name not in found]
    if missing:
        near = [n for name in missing for n in get_close_matches(name, _all(client), 3)]
        raise ProviderError(
            ErrorKind.REJECTED,
            f"there is no size {', '.join(missing)} in {client.region}",
            f"Did you mean {', '.join(near)}?" if near else "AWS's pages list the instance types.",
        )
    return found


def find(client: Client, filters: "Sequence[FilterTypeDef]") -> Iterator[Size]:
    """All that the region has and the filters let through."""
    with client.asking():
        pages = client.ec2.get_paginator("describe_instance_types").paginate(Filters=filters)
        for page in pages:
            yield from (_size(info) for info in page["InstanceTypes"])


def _size(info: "InstanceTypeInfoTypeDef") -> Size:
    gpus = info.get("GpuInfo", {}).get("Gpus", [])
    others = ("InferenceAcceleratorInfo", "FpgaInfo", "NeuronInfo", "MediaAcceleratorInfo")
    return Size(
        name=info["InstanceType"],
        arch=info["ProcessorInfo"]["SupportedArchitectures"][-1],  # i386 comes first
        cpus=info["VCpuInfo"]["DefaultVCpus"],
        memory=info["MemoryInfo"]["SizeInMiB"] << 20,
        gpus=sum(gpu["Count"] for gpu in gpus if gpu.get("Manufacturer") == "NVIDIA"),
        accelerated=bool(gpus) or any(key in info for key in others),
        burstable=info.get("BurstablePerformanceSupported", False),
    )


def zones(client: Client, names: Iterable[str]) -> dict[str, set[str]]:
    """In which zones each of these sizes is offered; empty for one that the region lacks."""
    asked = sorted(set(names))
    offered: dict[str, set[str]] = {name: set() for name in asked}
    with client.asking():
        pages = client.ec2.get_paginator("describe_instance_type_offerings").paginate(
            LocationType="availability-zone", Filters=[_filter("instance-type", asked)]
        )
        for page in pages:
            for offer in page["InstanceTypeOfferings"]:
                offered[offer["InstanceType"]].add(offer["Location"])
    return offered


def arch(client: Client, names: Sequence[str]) -> str:
    """The one architecture of these sizes; raises ProviderError where there are several."""
    archs = {name: size.arch for name, size in known(client, names).items()}
    if len(set(archs.values())) > 1:
        listed = ", ".join(f"{name} is {arch}" for name, arch in archs.items())
        raise ProviderError(
            ErrorKind.REJECTED,
            f"one image can't boot sizes of two architectures: {listed}",
            "Name sizes of one architecture, or make two groups.",
        )
    return archs[names[0]]


def default(client: Client) -> str:
    """For a spec that names none: one whose price is known, if there is."""
    offered = [name for name, where in zones(client, DEFAULTS).items() if where]
    by_age = sorted(offered, key=DEFAULTS.index)
    priced = [name for name in by_age if on_demand(name, client.region).usd_per_hour]
    if by_age:
        return (priced or by_age)[0]
    raise ProviderError(
        ErrorKind.REJECTED,
        f"{client.region} has none of the sizes {', '.join(DEFAULTS)}",
        "Name a `size` under [defaults].",
    )


def _all(client: Client) -> list[str]:
    with client.asking():
        pages = client.ec2.get_paginator("describe_instance_type_offerings").paginate()
        return sorted({o["InstanceType"] for page in pages for o in page["InstanceTypeOfferings"]})


def _filter(name: str, values: Sequence[str]) -> "FilterTypeDef":
    return {"Name": name, "Values": list(values)}
