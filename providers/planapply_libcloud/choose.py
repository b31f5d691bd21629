"""Choice of sizes that meet a spec's requirements."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from planapply.provider import ProviderError
from planapply.providerkit import Requirements, rejection
from planapply_libcloud.catalog import Catalog, list_names
from planapply_libcloud.nested import get_path

MAX_SIZES = 5
_CPU_KEYS = (
    "vcpus",
    "vcpu",
    "vcpu_count",
    "numberOfCores",
    "guestCpus",
    "cpus",
    "cpu",
    "cores",
    "core_number",
)


def choose(catalog: Catalog, requirements: Requirements) -> list[str]:
    """Return sizes that fit: the cheapest first, or the smallest if the cloud reports no prices.

    Raise a rejected ProviderError if none fits, or if the driver does not report what is required.
    """
    cloud = catalog.client.cloud
    if requirements == Requirements():
        raise rejection(
            f"no `size` is set, and {cloud} has no default size",
            'Set `size` under [defaults], or requirements: cpus = 2, memory = "4 GiB".',
        )
    if requirements.gpus or requirements.arch:
        raise rejection(
            f"the {cloud} driver does not report GPUs and architectures of sizes",
            "Set `size` instead of `gpus` and `arch`.",
        )
    sizes = list(catalog.sizes())
    fitting = [size for size in sizes if _fits(size, requirements)]
    if not fitting:
        raise rejection(
            f"{cloud} has no size that meets `cpus` and `memory`",
            "Reduce them, or set `size`.",
        )
    return list(dict.fromkeys(list_names(size)[-1] for size in sorted(fitting, key=_sort_key)))[
        :MAX_SIZES
    ]


def check_choice(
    catalog: Catalog, requirements: Requirements, names: Sequence[str]
) -> Iterator[ProviderError]:
    """Yield why these sizes cannot be a choice for the requirements; their prices may have changed."""
    if not 0 < len(names) <= MAX_SIZES:
        yield rejection(f"{len(names)} sizes were chosen, not 1 to {MAX_SIZES}")
        return
    for name in names:
        if not _fits(catalog.size(name), requirements):
            yield rejection(f"size {name} does not meet `cpus` and `memory`")


def count_cpus(size: Any) -> int | None:
    """Return the number of CPUs, which each driver reports under another name; None if unknown."""
    found: Iterable[Any] = (
        getattr(size, "vcpus", None),
        *(get_path(getattr(size, "extra", None) or {}, key) for key in _CPU_KEYS),
    )
    return next(
        (int(n) for n in found if isinstance(n, int | float | str) and str(n).isdigit()), None
    )


def _fits(size: Any, requirements: Requirements) -> bool:
    cpus = count_cpus(size)
    if requirements.cpus and (cpus is None or cpus < requirements.cpus):
        return False
    return not requirements.memory or (size.ram or 0) << 20 >= requirements.memory


def _sort_key(size: Any) -> tuple[float, int, float, str]:
    return (float(size.price or 1e9), count_cpus(size) or 0, float(size.ram or 0), str(size.name))
