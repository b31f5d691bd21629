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
from planapply_ec2.network import network
from planapply_ec2.settings import Settings

MOST_TAGS = 50
OWN_TAGS = 8
"""What planapply itself puts on a VM."""
LARGEST_DISK = 64 << 40
"""Bytes; what EBS takes at most, from its page "volume constraints"."""
ANYBODY = 1 << 24
"""Addresses; a network with more is a large part of the internet."""


def check(client: Client, settings: Settings, configs: Sequence[NodeConfig]) -> list[ProviderError]:
    """All that is wrong; what AWS can't be asked at all raises."""
    problems: list[ProviderError] = []
    parts: list[Callable[[], Iterator[ProviderError]]] = [
        lambda: _zones(client, settings, configs),
        lambda: _keys(client, configs),
        lambda: _groups(client, settings, configs),
        lambda: _tags(configs),
        lambda: _open(settings, configs),
        *(partial(_image, client, config) for config in configs),
    ]
    for part in parts:
        try:
            problems += part()
        except ProviderError as error:
            if error.kind is not ErrorKind.REJECTED:
                raise
            problems.append(error)
    unique = {(p.summary, p.detail): p for p in problems}
    return list(unique.values())


def _zones(
    client: Client, settings: Settings, configs: Sequence[NodeConfig]
) -> Iterator[ProviderError]:
    """Each size is to be had in a zone that it may be in; the scheduler's is everybody's."""
    here = list(network(client, settings).subnets)
    unknown = dict.fromkeys(z for config in configs for z in config.zones if z not in here)
    for zone in unknown:  # once, although `zones` under [defaults] is everybody's
        groups = ", ".join(config.group for config in configs if zone in config.zones)
        yield _rejected(
            f"{groups}: there is no subnet in a zone {zone!r}",
            f"Name in `zones` some that have subnets: {', '.join(here)}.",
        )
    offered = offers(client, configs)
    for config in configs:
        sizes.known(client, config.size)
        zones = [zone for zone in config.zones or here if zone in here]
        if zones and not any(zone in offered[size] for size in config.size for zone in zones):
            yield _rejected(
                f"{config.group}: {' and '.join(config.size)} can't be had in {', '.join(zones)}",
                f"AWS offers it in {_listed(offered, config.size)}: name other `zones`, or another "
                "`size`.",
            )
    scheduler = [config for config in configs if config.group == SCHEDULER]
    together = [c for c in configs if not c.zones or c.group == SCHEDULER]
    zones = [z for z in (scheduler[0].zones if scheduler else ()) or here if z in here]
    if (
        scheduler
        and zones
        and not any(
            all(any(zone in offered[size] for size in config.size) for config in together)
            for zone in zones
        )
    ):
        listed = "; ".join(f"{c.group}: {_listed(offered, c.size)}" for c in together)
        yield _rejected(
            "no zone has a size for every group, and workers stay in the scheduler's zone",
            f"AWS offers them in: {listed}. Name `zones` for the groups that may be elsewhere; "
            "traffic between zones costs money.",
        )


def offers(client: Client, configs: Sequence[NodeConfig]) -> dict[str, set[str]]:
    """In which zones the sizes of these configs are offered; asked once in a process."""
    names = sorted({size for config in configs for size in config.size})
    return client.remember(f"offers {names}", lambda: sizes.zones(client, names))


def _listed(offered: dict[str, set[str]], names: Sequence[str]) -> str:
    return ", ".join(sorted({z for name in names for z in offered[name]})) or "no zone"


def _image(client: Client, config: NodeConfig) -> Iterator[ProviderError]:
    if config.image is None:
        return
    found = image.known(client, config.image)
    told = config.environment
    brings_dask = told.packages or told.docker or told.setup or told.requirements is not None
    if found.owner == image.DEBIAN and not brings_dask:
        yield _rejected(
            "Debian's image has no Dask, and [environment] installs none",
            'Write packages = "client" there, for what this Python has, or a list of packages, or '
            "`docker`; or name an `image` that has it all.",
        )
    arch = sizes.arch(client, config.size)
    if found.arch != arch:
        yield _rejected(
            f"{config.group}: the image {found.id} is for {found.arch}, and "
            f"{config.size[0]} is {arch}",
            "Name an `image` or a `size` of the other architecture.",
        )
    if config.disk and config.disk < found.disk:
        yield _rejected(
            f"{config.group}: the image {found.id} needs a disk of {found.disk // GIB} GiB",
            f'Write disk = "{found.disk // GIB} GiB", or more, or leave it out.',
        )
    if config.disk and config.disk > LARGEST_DISK:
        yield _rejected(
            f"{config.group}: EC2 has no disk larger than {LARGEST_DISK // GIB:,} GiB",
            "Write a smaller `disk`, or leave it out: it is the image's then.",
        )


def _keys(client: Client, configs: Sequence[NodeConfig]) -> Iterator[ProviderError]:
    for name in sorted({k for c in configs if (k := c.provider.get("key_name"))}):
        with client.asking():
            keys = sorted(pair["KeyName"] for pair in client.ec2.describe_key_pairs()["KeyPairs"])
        if name not in keys:
            near = get_close_matches(name, keys, 1)
            guess = f"Did you mean {near[0]!r}? " if near else ""
            yield _rejected(
                f"there is no key pair {name!r} in {client.region}",
                f"{guess}Key pairs here: {', '.join(keys) or 'none'}. Put `key_name` under "
                "[provider] right, or leave it out.",
            )


def _groups(
    client: Client, settings: Settings, configs: Sequence[NodeConfig]
) -> Iterator[ProviderError]:
    asked = list(dict.fromkeys(g for c in configs for g in c.provider.get("security_groups", ())))
    if not asked:
        return
    with client.asking():
        found = client.ec2.describe_security_groups(
            Filters=[{"Name": "group-id", "Values": asked}]
        )["SecurityGroups"]
    vpcs = {group["GroupId"]: group.get("VpcId") for group in found}
    vpc = network(client, settings).vpc
    for group in asked:
        if group not in vpcs:
            yield _rejected(
                f"there is no security group {group} in {client.region}",
                "Put `security_groups` under [provider] right, or leave it out: one is made then.",
            )
        elif vpcs[group] != vpc:
            yield _rejected(
                f"the security group {group} is of {vpcs[group]}, and the VMs will be in {vpc}",
                "Name a group of that VPC, or write `vpc` or `subnets` under [provider].",
            )


def _tags(configs: Sequence[NodeConfig]) -> Iterator[ProviderError]:
    for config in configs:
        if len(config.tags) > MOST_TAGS - OWN_TAGS:
            yield _rejected(
                f"{config.group} has {len(config.tags)} tags, and EC2 takes {MOST_TAGS} a VM, of "
                f"which planapply needs {OWN_TAGS}",
                "Leave some out.",
            )
        for key in config.tags:
            if key.lower().startswith("aws:"):
                yield _rejected(f"the tag {key!r} is reserved by AWS", "Use another key.")


def _open(settings: Settings, configs: Sequence[NodeConfig]) -> Iterator[ProviderError]:
    wide = [
        text
        for text in settings.allow_from
        if text != "me" and _addresses(text) >= ANYBODY and not _is_private(text)
    ]
    if wide and any(config.security == "none" for config in configs):
        yield _rejected(
            f'allow_from lets {", ".join(wide)} in, and with security = "none" whoever reaches '
            "the scheduler can run code on every node",
            'Write security = "tls" under [cluster], or smaller networks.',
        )


def _addresses(text: str) -> int:
    found = ipaddress.ip_network(text)
    # An IPv6 site has a /48 or smaller: count as if the rest were one.
    return found.num_addresses if found.version == 4 else 1 << max(0, 48 - found.prefixlen)


def _is_private(text: str) -> bool:
    return ipaddress.ip_network(text).is_private and text not in ("0.0.0.0/0", "::/0")


def _rejected(summary: str, detail: str) -> ProviderError:
    return ProviderError(ErrorKind.REJECTED, summary, detail)
