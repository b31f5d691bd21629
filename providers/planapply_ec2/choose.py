"""The cheapest sizes that have what is asked for."""

from math import inf
from typing import TYPE_CHECKING

from planapply.model.node import Requirements
from planapply.provider import ErrorKind, ProviderError
from planapply_ec2 import sizes
from planapply_ec2.client import Client
from planapply_ec2.price import on_demand
from planapply_ec2.sizes import Size

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef

CHOICES = 3
MUCH_DEARER = 2.0  # times
CPUS: tuple[int, ...] = (1, 2, 4, 8, 12, 16, 24, 32, 36, 40, 48, 64, 72, 96, 112, 128)
CPUS += (176, 180, 192, 224, 256, 384, 448, 768, 896)
GIB = 1 << 30


def choose(client: Client, need: Requirements) -> list[str]:
    """The names of the cheapest sizes that fit, cheapest first.

    Left out are burstable and flex sizes, which slow down under load, older generations, bare
    metal, and, unless GPUs are asked for, sizes with accelerators. With no `arch` it is x86_64,
    which most binary packages are made for.
    """
    if need == Requirements():
        return [sizes.default(client)]
    fitting = [size for size in sizes.find(client, _filters(need)) if _fits(size, need)]
    if not fitting:
        raise ProviderError(
            ErrorKind.REJECTED,
            f"no size in {client.region} has {_words(need)}",
            "Ask for less, or name a `size`.",
        )
    prices = {size.name: on_demand(size.name, client.region).usd_per_hour for size in fitting}

    def rank(size: Size) -> tuple[bool, float, int, int, str]:
        usd = prices[size.name]
        return (usd is None, usd or 0.0, size.cpus, size.memory, size.name)

    best = [size.name for size in sorted(fitting, key=rank)[:CHOICES]]
    # What stands in where the first is short is not much dearer, and its price is known.
    most = MUCH_DEARER * (prices[best[0]] or 0.0)
    return [best[0], *(name for name in best[1:] if (prices[name] or inf) < most)]


def _filters(need: Requirements) -> "list[FilterTypeDef]":
    """What EC2 itself can leave out, so that there are fewer pages to ask for."""
    filters: list[FilterTypeDef] = [
        {"Name": "current-generation", "Values": ["true"]},
        {"Name": "bare-metal", "Values": ["false"]},
        {"Name": "processor-info.supported-architecture", "Values": [need.arch or "x86_64"]},
    ]
    if need.gpus:
        return [*filters, {"Name": "instance-type", "Values": ["g*", "p*"]}]
    low = need.cpus or 1
    # Every family has at least 2 GiB for each CPU.
    high = max(4 * low, (need.memory or 0) // (2 * GIB), 4)
    cpus = [str(n) for n in CPUS if low <= n <= high]
    return [*filters, {"Name": "vcpu-info.default-vcpus", "Values": cpus or [str(low)]}]


def _fits(size: Size, need: Requirements) -> bool:
    return (
        size.cpus >= (need.cpus or 1)
        and size.memory >= (need.memory or 0)
        and size.gpus >= (need.gpus or 0)
        and (bool(need.gpus) or not size.accelerated)
        and not size.burstable
        and "-flex." not in size.name
    )


def _words(need: Requirements) -> str:
    parts = [
        f"{need.cpus} CPUs" if need.cpus else "",
        f"{need.memory / GIB:g} GiB of memory" if need.memory else "",
        f"{need.gpus} NVIDIA GPUs" if need.gpus else "",
        f"the architecture {need.arch}" if need.arch else "",
    ]
    return ", ".join(part for part in parts if part)
