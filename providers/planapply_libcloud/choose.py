"""Sizes that fit what the spec asks for, where it names none."""

from collections.abc import Iterable
from typing import Any

from planapply.model.node import Requirements
from planapply.provider import ErrorKind, ProviderError
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
    """The cheapest first, or the smallest where the cloud tells no prices.

    Raises a rejected ProviderError where none fits, and where the driver can't tell.
    """
    cloud = catalog.client.cloud
    if requirements == Requirements():
        raise ProviderError(
            ErrorKind.REJECTED,
            f"no size is named, and {cloud} has none by default",
            'Write size = … under [defaults], or what it must have: cpus = 2, memory = "4 GiB".',
        )
    if requirements.gpus or requirements.arch:
        raise ProviderError(
            ErrorKind.REJECTED,
            f"{cloud}'s driver does not tell which sizes have what `gpus` and `arch` ask for",
            "Name a `size`.",
        )
    sizes = list(catalog.sizes())
    fitting = [size for size in sizes if _fits(size, requirements)]
    if not fitting:
        raise ProviderError(
            ErrorKind.REJECTED,
            f"{cloud} has no size with what `cpus` and `memory` ask for",
            "Ask for less, or name a `size`.",
        )
    return list(dict.fromkeys(list_names(size)[-1] for size in sorted(fitting, key=_sort_key)))[
        :MAX_SIZES
    ]


def count_cpus(size: Any) -> int | None:
    """As the driver has it, under one of many names."""
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
