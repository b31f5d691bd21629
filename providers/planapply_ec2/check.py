"""What can be known to fail before anything is launched, all at once."""

import ipaddress
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from functools import partial

from planapply.model.names import SCHEDULER
from planapply.model.node import NodeConfig
from planapply.provider import ErrorKind, ProviderError
from planapply_ec2 import image, sizes
from planapply_ec2.client import Client
from planapply_ec2.launch import GIB
from planapply_ec2.network import find_network
from planapply_ec2.settings import Settings

MAX_TAGS = 50
OWN_TAGS = 8
"""What planapply itself puts on a VM."""
MAX_DISK = 64 << 40
"""Bytes; what EBS takes at most, from its page "volume constraints"."""
WIDE_NETWORK_SIZE = 1 << 24
"""Addresses; a network with more is a large part of the internet."""


def check(client: Client, settings: Settings, configs: Sequence[NodeConfig]) -> list[ProviderError]:
    """All that is wrong; what AWS can't be asked at all raises."""
    problems: list[ProviderError] = []
    checks: list[Callable[[], Iterator[ProviderError]]] = [
        lambda: _check_zones(client, settings, configs),
        lambda: _check_key_pairs(client, configs),
        lambda: _check_security_groups(client, settings, configs),
        lambda: _check_tags(configs),
        lambda: _check_open_networks(settings, configs),
        *(partial(_check_image, client, config) for config in configs),
    ]
    for run_check in checks:
        try:
            problems += run_check()
        except ProviderError as error:
            if error.kind is not ErrorKind.REJECTED:
                raise
            problems.append(error)
    unique = {(p.summary, p.detail): p for p in problems}
    return list(unique.values())


def _check_zones(
    client: Client, settings: Settings, configs: Sequence[NodeConfig]
) -> Iterator[ProviderError]:
    """Each size is to be had in a zone that it may be in; the scheduler's is everybody's."""
    vpc_zones = list(find_network(client, settings).subnets)
    unknown = dict.fromkeys(z for config in configs for z in config.zones if z not in vpc_zones)
    for zone in unknown:  # once, although `zones` under [defaults] is everybody's
        groups = ", ".join(config.group for config in configs if zone in config.zones)
        yield _make_rejection(
            f"{groups}: there is no subnet in a zone {zone!r}",
            f"Name in `zones` some that have subnets: {', '.join(vpc_zones)}.",
        )
    offered = find_offers(client, configs)
    for config in configs:
        sizes.describe(client, config.size)
        zones = [zone for zone in config.zones or vpc_zones if zone in vpc_zones]
        if zones and not any(zone in offered[size] for size in config.size for zone in zones):
            yield _make_rejection(
                f"{config.group}: {' and '.join(config.size)} can't be had in {', '.join(zones)}",
                f"AWS offers it in {_list_zones(offered, config.size)}: name other `zones`, or another "
                "`size`.",
            )
    scheduler = [config for config in configs if config.group == SCHEDULER]
    colocated = [c for c in configs if not c.zones or c.group == SCHEDULER]
    zones = [z for z in (scheduler[0].zones if scheduler else ()) or vpc_zones if z in vpc_zones]
    if (
        scheduler
        and zones
        and not any(
            all(any(zone in offered[size] for size in config.size) for config in colocated)
            for zone in zones
        )
    ):
        listed = "; ".join(f"{c.group}: {_list_zones(offered, c.size)}" for c in colocated)
        yield _make_rejection(
            "no zone has a size for every group, and workers stay in the scheduler's zone",
            f"AWS offers them in: {listed}. Name `zones` for the groups that may be elsewhere; "
            "traffic between zones costs money.",
        )


def find_offers(client: Client, configs: Sequence[NodeConfig]) -> dict[str, set[str]]:
    """In which zones the sizes of these configs are offered; asked once in a process."""
    names = sorted({size for config in configs for size in config.size})
    return client.get_cached(f"offers {names}", lambda: sizes.find_zones(client, names))


def _list_zones(offered: dict[str, set[str]], names: Sequence[str]) -> str:
    return ", ".join(sorted({z for name in names for z in offered[name]})) or "no zone"


def _check_image(client: Client, config: NodeConfig) -> Iterator[ProviderError]:
    if config.image is None:
        return
    found = image.describe(client, config.image)
    environment = config.environment
    brings_dask = (
        environment.packages
        or environment.docker
        or environment.setup
        or environment.requirements is not None
    )
    if found.owner == image.DEBIAN and not brings_dask:
        yield _make_rejection(
            "Debian's image has no Dask, and [environment] installs none",
            'Write packages = "client" there, for what this Python has, or a list of packages, or '
            "`docker`; or name an `image` that has it all.",
        )
    arch = sizes.find_arch(client, config.size)
    if found.arch != arch:
        yield _make_rejection(
            f"{config.group}: the image {found.id} is for {found.arch}, and "
            f"{config.size[0]} is {arch}",
            "Name an `image` or a `size` of the other architecture.",
        )
    if config.disk and config.disk < found.disk:
        yield _make_rejection(
            f"{config.group}: the image {found.id} needs a disk of {found.disk // GIB} GiB",
            f'Write disk = "{found.disk // GIB} GiB", or more, or leave it out.',
        )
    if config.disk and config.disk > MAX_DISK:
        yield _make_rejection(
            f"{config.group}: EC2 has no disk larger than {MAX_DISK // GIB:,} GiB",
            "Write a smaller `disk`, or leave it out: it is the image's then.",
        )


def _check_key_pairs(client: Client, configs: Sequence[NodeConfig]) -> Iterator[ProviderError]:
    for name in sorted({k for c in configs if (k := c.provider.get("key_name"))}):
        with client.translate_errors():
            keys = sorted(pair["KeyName"] for pair in client.ec2.describe_key_pairs()["KeyPairs"])
        if name not in keys:
            matches = get_close_matches(name, keys, 1)
            suggestion = f"Did you mean {matches[0]!r}? " if matches else ""
            yield _make_rejection(
                f"there is no key pair {name!r} in {client.region}",
                f"{suggestion}Key pairs here: {', '.join(keys) or 'none'}. Put `key_name` under "
                "[provider] right, or leave it out.",
            )


def _check_security_groups(
    client: Client, settings: Settings, configs: Sequence[NodeConfig]
) -> Iterator[ProviderError]:
    group_ids = list(
        dict.fromkeys(g for c in configs for g in c.provider.get("security_groups", ()))
    )
    if not group_ids:
        return
    with client.translate_errors():
        found = client.ec2.describe_security_groups(
            Filters=[{"Name": "group-id", "Values": group_ids}]
        )["SecurityGroups"]
    vpcs = {group["GroupId"]: group.get("VpcId") for group in found}
    vpc = find_network(client, settings).vpc
    for group in group_ids:
        if group not in vpcs:
            yield _make_rejection(
                f"there is no security group {group} in {client.region}",
                "Put `security_groups` under [provider] right, or leave it out: one is made then.",
            )
        elif vpcs[group] != vpc:
            yield _make_rejection(
                f"the security group {group} is of {vpcs[group]}, and the VMs will be in {vpc}",
                "Name a group of that VPC, or write `vpc` or `subnets` under [provider].",
            )


def _check_tags(configs: Sequence[NodeConfig]) -> Iterator[ProviderError]:
    for config in configs:
        if len(config.tags) > MAX_TAGS - OWN_TAGS:
            yield _make_rejection(
                f"{config.group} has {len(config.tags)} tags, and EC2 takes {MAX_TAGS} a VM, of "
                f"which planapply needs {OWN_TAGS}",
                "Leave some out.",
            )
        for key in config.tags:
            if key.lower().startswith("aws:"):
                yield _make_rejection(f"the tag {key!r} is reserved by AWS", "Use another key.")


def _check_open_networks(
    settings: Settings, configs: Sequence[NodeConfig]
) -> Iterator[ProviderError]:
    wide_networks = [
        text
        for text in settings.allow_from
        if text != "me" and _count_addresses(text) >= WIDE_NETWORK_SIZE and not _is_private(text)
    ]
    if wide_networks and any(config.security == "none" for config in configs):
        yield _make_rejection(
            f'allow_from lets {", ".join(wide_networks)} in, and with security = "none" whoever reaches '
            "the scheduler can run code on every node",
            'Write security = "tls" under [cluster], or smaller networks.',
        )


def _count_addresses(text: str) -> int:
    network = ipaddress.ip_network(text)
    # An IPv6 site has a /48 or smaller: count as if the rest were one.
    return network.num_addresses if network.version == 4 else 1 << max(0, 48 - network.prefixlen)


def _is_private(text: str) -> bool:
    return ipaddress.ip_network(text).is_private and text not in ("0.0.0.0/0", "::/0")


def _make_rejection(summary: str, detail: str) -> ProviderError:
    return ProviderError(ErrorKind.REJECTED, summary, detail)
