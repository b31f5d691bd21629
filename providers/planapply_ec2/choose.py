"""Choice of the cheapest sizes that meet a spec's requirements."""

from collections.abc import Iterator, Sequence
from math import inf
from typing import TYPE_CHECKING

from planapply.provider import ProviderError
from planapply.providerkit import GIB, Requirements, rejection
from planapply_ec2 import sizes
from planapply_ec2.client import Client
from planapply_ec2.price import find_on_demand_price
from planapply_ec2.sizes import Size

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef

MAX_CHOICES = 3
MAX_PRICE_RATIO = 2.0  # times
CPU_COUNTS: tuple[int, ...] = (1, 2, 4, 8, 12, 16, 24, 32, 36, 40, 48, 64, 72, 96, 112, 128)
CPU_COUNTS += (176, 180, 192, 224, 256, 384, 448, 768, 896)


def choose(client: Client, requirements: Requirements) -> list[str]:
    """Return the names of the cheapest sizes that fit, cheapest first.

    Excluded are burstable and flex sizes, which slow down under load, older generations, bare
    metal, and, unless GPUs are required, sizes with accelerators. The default of `arch` is x86_64,
    because most binary packages are built for it.
    """
    if requirements == Requirements():
        return [sizes.pick_default(client)]
    fitting = [
        size for size in sizes.find(client, _filters(requirements)) if _fits(size, requirements)
    ]
    if not fitting:
        raise rejection(
            f"no size in {client.region} has {_describe(requirements)}",
            "Reduce the requirements, or name a `size`.",
        )
    prices = {
        size.name: find_on_demand_price(size.name, client.region).usd_per_hour for size in fitting
    }

    def sort_key(size: Size) -> tuple[bool, float, int, int, str]:
        usd = prices[size.name]
        return (usd is None, usd or 0.0, size.cpus, size.memory, size.name)

    best = [size.name for size in sorted(fitting, key=sort_key)[:MAX_CHOICES]]
    # An alternative to the first size has a known price that is not much higher.
    max_price = MAX_PRICE_RATIO * (prices[best[0]] or 0.0)
    return [best[0], *(name for name in best[1:] if (prices[name] or inf) < max_price)]


def check_choice(
    client: Client, requirements: Requirements, names: Sequence[str]
) -> Iterator[ProviderError]:
    """Yield why these sizes cannot be a choice for the requirements; their prices may have changed."""
    if requirements == Requirements():
        if len(names) != 1 or names[0] not in sizes.DEFAULT_SIZES:
            yield rejection(f"{', '.join(names)} is not a default size")
        return
    if not 0 < len(names) <= MAX_CHOICES:
        yield rejection(f"{len(names)} sizes were chosen, not 1 to {MAX_CHOICES}")
        return
    arch = requirements.arch or "x86_64"
    for size in sizes.describe(client, names).values():
        if size.arch != arch or not _fits(size, requirements):
            yield rejection(f"size {size.name} does not have {_describe(requirements)}")


def _filters(requirements: Requirements) -> "list[FilterTypeDef]":
    """Return filters that EC2 itself can apply, so that there are fewer pages to read."""
    filters: list[FilterTypeDef] = [
        {"Name": "current-generation", "Values": ["true"]},
        {"Name": "bare-metal", "Values": ["false"]},
        {
            "Name": "processor-info.supported-architecture",
            "Values": [requirements.arch or "x86_64"],
        },
    ]
    if requirements.gpus:
        return [*filters, {"Name": "instance-type", "Values": ["g*", "p*"]}]
    low = requirements.cpus or 1
    # Every family has at least 2 GiB for each CPU.
    high = max(4 * low, (requirements.memory or 0) // (2 * GIB), 4)
    cpus = [str(n) for n in CPU_COUNTS if low <= n <= high]
    return [*filters, {"Name": "vcpu-info.default-vcpus", "Values": cpus or [str(low)]}]


def _fits(size: Size, requirements: Requirements) -> bool:
    return (
        size.cpus >= (requirements.cpus or 1)
        and size.memory >= (requirements.memory or 0)
        and size.gpus >= (requirements.gpus or 0)
        and (bool(requirements.gpus) or not size.accelerated)
        and not size.burstable
        and "-flex." not in size.name
    )


def _describe(requirements: Requirements) -> str:
    parts = [
        f"{requirements.cpus} CPUs" if requirements.cpus else "",
        f"{requirements.memory / GIB:g} GiB of memory" if requirements.memory else "",
        f"{requirements.gpus} NVIDIA GPUs" if requirements.gpus else "",
        f"the architecture {requirements.arch}" if requirements.arch else "",
    ]
    return ", ".join(part for part in parts if part)
