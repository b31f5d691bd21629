"""Sizes of VMs, and the zones that offer them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from planapply.providerkit import rejection, suggest
from planapply_ec2.client import Client
from planapply_ec2.price import find_on_demand_price

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef, InstanceTypeInfoTypeDef

DEFAULT_SIZES = ("m7i.large", "m6i.large", "m5.large")
"""Default sizes: the first that the region offers and whose price is known is used."""


@dataclass(frozen=True)
class Size:
    """Instance type of EC2."""

    name: str
    arch: str
    cpus: int
    memory: int
    """Bytes."""
    gpus: int = 0
    """NVIDIA GPUs only: CUDA runs on no others."""
    accelerated: bool = False
    """Whether it has GPUs or other accelerators, which cost extra."""
    burstable: bool = False


def describe(client: Client, names: Iterable[str]) -> dict[str, Size]:
    """Return these sizes by name; raise a rejected ProviderError if one does not exist."""
    unique_names = sorted(set(names))
    sizes = client.cache.get(
        f"sizes {unique_names}",
        lambda: {
            size.name: size for size in find(client, [_make_filter("instance-type", unique_names)])
        },
    )
    missing = [name for name in unique_names if name not in sizes]
    if missing:
        known = _list_names(client)
        hints = [suggest(name, known) for name in missing]
        raise rejection(
            f"there is no size {', '.join(missing)} in {client.region}",
            " ".join(filter(None, hints)) or "AWS's documentation lists the instance types.",
        )
    return sizes


def find(client: Client, filters: "Sequence[FilterTypeDef]") -> Iterator[Size]:
    """Yield the sizes of the region that match the filters."""
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
    """Return the zones that offer each of these sizes; no zones if the region lacks it."""
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
    """Return the architecture of these sizes; raise a rejected ProviderError if they differ."""
    archs = {name: size.arch for name, size in describe(client, names).items()}
    if len(set(archs.values())) > 1:
        listed = ", ".join(f"{name} is {arch}" for name, arch in archs.items())
        raise rejection(
            f"cannot use sizes of different architectures in one group: {listed}",
            "Choose sizes of one architecture, or use two groups.",
        )
    return archs[names[0]]


def pick_default(client: Client) -> str:
    """Return the size for a spec without one; prefer sizes with a known price."""
    offered = [name for name, zones in find_zones(client, DEFAULT_SIZES).items() if zones]
    by_age = sorted(offered, key=DEFAULT_SIZES.index)
    priced = [name for name in by_age if find_on_demand_price(name, client.region).usd_per_hour]
    if by_age:
        return (priced or by_age)[0]
    raise rejection(
        f"none of the default sizes is offered in {client.region}: {', '.join(DEFAULT_SIZES)}",
        "Set `size` under [defaults].",
    )


def _list_names(client: Client) -> list[str]:
    with client.translate_errors():
        pages = client.ec2.get_paginator("describe_instance_type_offerings").paginate()
        return sorted({o["InstanceType"] for page in pages for o in page["InstanceTypeOfferings"]})


def _make_filter(name: str, values: Sequence[str]) -> "FilterTypeDef":
    return {"Name": name, "Values": list(values)}
