"""What sizes there are, and where."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from planapply.provider import ErrorKind, ProviderError
from planapply_ec2.client import Client
from planapply_ec2.price import find_on_demand_price

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef, InstanceTypeInfoTypeDef

DEFAULT_SIZES = ("m7i.large", "m6i.large", "m5.large")
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


def describe(client: Client, names: Iterable[str]) -> dict[str, Size]:
    """These sizes, asked once in a process; raises ProviderError for those that don't exist."""
    unique_names = sorted(set(names))
    sizes = client.get_cached(
        f"sizes {unique_names}",
        lambda: {
            size.name: size for size in find(client, [_make_filter("instance-type", unique_names)])
        },
    )
    missing = [name for name in unique_names if name not in sizes]
    if missing:
        matches = [n for name in missing for n in get_close_matches(name, _list_names(client), 3)]
        raise ProviderError(
            ErrorKind.REJECTED,
            f"there is no size {', '.join(missing)} in {client.region}",
            f"Did you mean {', '.join(matches)}?"
            if matches
            else "AWS's pages list the instance types.",
        )
    return sizes


def find(client: Client, filters: "Sequence[FilterTypeDef]") -> Iterator[Size]:
    """All that the region has and the filters let through."""
    with client.translate_errors():
        pages = client.ec2.get_paginator("describe_instance_types").paginate(Filters=filters)
        for page in pages:
            yield from (_parse_size(info) for info in page["InstanceTypes"])


def _parse_size(info: "InstanceTypeInfoTypeDef") -> Size:
    gpus = info.get("GpuInfo", {}).get("Gpus", [])
    accelerator_keys = (
        "InferenceAcceleratorInfo",
        "FpgaInfo",
        "NeuronInfo",
        "MediaAcceleratorInfo",
    )
    return Size(
        name=info["InstanceType"],
        arch=info["ProcessorInfo"]["SupportedArchitectures"][-1],  # i386 comes first
        cpus=info["VCpuInfo"]["DefaultVCpus"],
        memory=info["MemoryInfo"]["SizeInMiB"] << 20,
        gpus=sum(gpu["Count"] for gpu in gpus if gpu.get("Manufacturer") == "NVIDIA"),
        accelerated=bool(gpus) or any(key in info for key in accelerator_keys),
        burstable=info.get("BurstablePerformanceSupported", False),
    )


def find_zones(client: Client, names: Iterable[str]) -> dict[str, set[str]]:
    """In which zones each of these sizes is offered; empty for one that the region lacks."""
    unique_names = sorted(set(names))
    offered: dict[str, set[str]] = {name: set() for name in unique_names}
    with client.translate_errors():
        pages = client.ec2.get_paginator("describe_instance_type_offerings").paginate(
            LocationType="availability-zone", Filters=[_make_filter("instance-type", unique_names)]
        )
        for page in pages:
            for offer in page["InstanceTypeOfferings"]:
                offered[offer["InstanceType"]].add(offer["Location"])
    return offered


def find_arch(client: Client, names: Sequence[str]) -> str:
    """The one architecture of these sizes; raises ProviderError where there are several."""
    archs = {name: size.arch for name, size in describe(client, names).items()}
    if len(set(archs.values())) > 1:
        listed = ", ".join(f"{name} is {arch}" for name, arch in archs.items())
        raise ProviderError(
            ErrorKind.REJECTED,
            f"one image can't boot sizes of two architectures: {listed}",
            "Name sizes of one architecture, or make two groups.",
        )
    return archs[names[0]]


def pick_default(client: Client) -> str:
    """For a spec that names none: one whose price is known, if there is."""
    offered = [name for name, zones in find_zones(client, DEFAULT_SIZES).items() if zones]
    by_age = sorted(offered, key=DEFAULT_SIZES.index)
    priced = [name for name in by_age if find_on_demand_price(name, client.region).usd_per_hour]
    if by_age:
        return (priced or by_age)[0]
    raise ProviderError(
        ErrorKind.REJECTED,
        f"{client.region} has none of the sizes {', '.join(DEFAULT_SIZES)}",
        "Name a `size` under [defaults].",
    )


def _list_names(client: Client) -> list[str]:
    with client.translate_errors():
        pages = client.ec2.get_paginator("describe_instance_type_offerings").paginate()
        return sorted({o["InstanceType"] for page in pages for o in page["InstanceTypeOfferings"]})


def _make_filter(name: str, values: Sequence[str]) -> "FilterTypeDef":
    return {"Name": name, "Values": list(values)}
