"""Checks for errors that can be found before anything is launched; all are reported at once."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from planapply.provider import ProviderError
from planapply.providerkit import (
    GIB,
    SCHEDULER,
    NodeConfig,
    collect_rejections,
    rejection,
    suggest,
)
from planapply_ec2 import image, sizes
from planapply_ec2.client import Client
from planapply_ec2.network import find_network
from planapply_ec2.settings import Settings

MAX_TAGS = 50
OWN_TAGS = 8
"""The number of tags that planapply itself sets on a VM."""
MAX_DISK = 64 << 40
"""Largest EBS volume in bytes, from AWS's page "volume constraints"."""


def check(client: Client, settings: Settings, configs: Sequence[NodeConfig]) -> list[ProviderError]:
    """Return all errors in VMs of these configs; raise ProviderError if AWS cannot be called."""
    checks: list[Callable[[], Iterator[ProviderError]]] = [
        lambda: _check_zones(client, settings, configs),
        lambda: _check_key_pairs(client, configs),
        lambda: _check_security_groups(client, settings, configs),
        lambda: _check_tags(configs),
        *(partial(_check_image, client, config) for config in configs),
    ]
    return collect_rejections(checks)


def check_settings(client: Client, settings: Settings) -> list[ProviderError]:
    """Return the errors in what the settings name: a call for each kind, and none without names."""
    checks: list[Callable[[], Iterator[ProviderError]]] = []
    if settings.vpc or settings.subnets:
        checks.append(lambda: _check_network(client, settings))
    if settings.key_name:
        checks.append(lambda: _check_key_names(client, [str(settings.key_name)]))
    if settings.security_groups:
        checks.append(lambda: _check_group_ids(client, settings, settings.security_groups))
    return collect_rejections(checks)


def _check_network(client: Client, settings: Settings) -> Iterator[ProviderError]:
    find_network(client, settings)
    yield from ()


def _check_zones(
    client: Client, settings: Settings, configs: Sequence[NodeConfig]
) -> Iterator[ProviderError]:
    """Check that each group's sizes are offered in its zones; workers stay in the scheduler's zone."""
    vpc_zones = list(find_network(client, settings).subnets)
    unknown = dict.fromkeys(z for config in configs for z in config.zones if z not in vpc_zones)
    for zone in unknown:  # once, although `zones` under [defaults] applies to every group
        groups = ", ".join(config.group for config in configs if zone in config.zones)
        yield rejection(
            f"{groups}: the VPC has no subnet in zone {zone!r}",
            f"In `zones`, list only zones with subnets: {', '.join(vpc_zones)}.",
        )
    offered = find_offers(client, configs)
    for config in configs:
        sizes.describe(client, config.size)
        zones = [zone for zone in config.zones or vpc_zones if zone in vpc_zones]
        if zones and not any(zone in offered[size] for size in config.size for zone in zones):
            verb = "is" if len(config.size) == 1 else "are"
            yield rejection(
                f"{config.group}: {' and '.join(config.size)} {verb} not offered in "
                f"{', '.join(zones)}",
                f"Choose another `size`, or other `zones`: {_list_zones(offered, config.size)}.",
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
        yield rejection(
            "no zone offers a size for every group, but workers run in the scheduler's zone",
            f"Zones with the sizes of each group: {listed}. Set `zones` for the groups that may run in "
            "another zone (traffic between zones costs money), or choose other sizes.",
        )


def find_offers(client: Client, configs: Sequence[NodeConfig]) -> dict[str, set[str]]:
    """Return the zones that offer each size of these configs."""
    names = sorted({size for config in configs for size in config.size})
    return client.cache.get(f"offers {names}", lambda: sizes.find_zones(client, names))


def _list_zones(offered: dict[str, set[str]], names: Sequence[str]) -> str:
    return ", ".join(sorted({z for name in names for z in offered[name]})) or "no zone"


def _check_image(client: Client, config: NodeConfig) -> Iterator[ProviderError]:
    if config.image is None:
        return
    found = image.describe(client, config.image)
    environment = config.environment
    installs_dask = (
        environment.packages
        or environment.docker
        or environment.setup
        or environment.requirements is not None
    )
    if found.owner == image.DEBIAN and not installs_dask:
        yield rejection(
            "Debian's image has no Dask, and [environment] does not install it",
            'Under [environment], write packages = "client" for the packages of this Python, or a '
            "list of packages, or `docker`. Or set `image` to an image with Dask.",
        )
    arch = sizes.find_arch(client, config.size)
    if found.arch != arch:
        yield rejection(
            f"{config.group}: image {found.id} is for {found.arch}, but {config.size[0]} is {arch}",
            "Choose an `image` and a `size` of the same architecture.",
        )
    if config.disk and config.disk < found.disk:
        yield rejection(
            f"{config.group}: image {found.id} needs a disk of {found.disk // GIB} GiB",
            f'Write disk = "{found.disk // GIB} GiB" or more, or remove `disk`.',
        )
    if config.disk and config.disk > MAX_DISK:
        yield rejection(
            f"{config.group}: EC2 has no disk larger than {MAX_DISK // GIB:,} GiB",
            "Reduce `disk`, or remove it to use the image's disk size.",
        )


def _check_key_pairs(client: Client, configs: Sequence[NodeConfig]) -> Iterator[ProviderError]:
    names = sorted({k for c in configs if (k := c.provider.get("key_name"))})
    yield from _check_key_names(client, names)


def _check_key_names(client: Client, names: Sequence[str]) -> Iterator[ProviderError]:
    for name in names:
        with client.translate_errors():
            keys = sorted(pair["KeyName"] for pair in client.ec2.describe_key_pairs()["KeyPairs"])
        if name not in keys:
            advice = [
                suggest(name, keys, limit=1),
                f"Key pairs here: {', '.join(keys) or 'none'}.",
                "Correct `key_name` under [provider], or remove it.",
            ]
            yield rejection(
                f"there is no key pair {name!r} in {client.region}",
                " ".join(part for part in advice if part),
            )


def _check_security_groups(
    client: Client, settings: Settings, configs: Sequence[NodeConfig]
) -> Iterator[ProviderError]:
    group_ids = list(
        dict.fromkeys(g for c in configs for g in c.provider.get("security_groups", ()))
    )
    if group_ids:
        yield from _check_group_ids(client, settings, group_ids)


def _check_group_ids(
    client: Client, settings: Settings, group_ids: Sequence[str]
) -> Iterator[ProviderError]:
    with client.translate_errors():
        found = client.ec2.describe_security_groups(
            Filters=[{"Name": "group-id", "Values": list(group_ids)}]
        )["SecurityGroups"]
    vpcs = {group["GroupId"]: group.get("VpcId") for group in found}
    vpc = find_network(client, settings).vpc
    for group in group_ids:
        if group not in vpcs:
            yield rejection(
                f"there is no security group {group} in {client.region}",
                "Correct `security_groups` under [provider], or remove it: planapply then creates "
                "a group for the cluster.",
            )
        elif vpcs[group] != vpc:
            yield rejection(
                f"security group {group} belongs to {vpcs[group]}, but the VMs run in {vpc}",
                "Choose a security group of that VPC, or set `vpc` or `subnets` under [provider].",
            )


def _check_tags(configs: Sequence[NodeConfig]) -> Iterator[ProviderError]:
    for config in configs:
        if len(config.tags) > MAX_TAGS - OWN_TAGS:
            yield rejection(
                f"{config.group} has {len(config.tags)} tags, but EC2 allows {MAX_TAGS} per VM and "
                f"planapply needs {OWN_TAGS} of them",
                f"Remove tags until at most {MAX_TAGS - OWN_TAGS} are left.",
            )
        for key in config.tags:
            if key.lower().startswith("aws:"):
                yield rejection(f"tag {key!r} is reserved by AWS", "Use another key.")
