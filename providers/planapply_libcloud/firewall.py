"""Who reaches the scheduler: a security group or firewall rules, made for the cluster."""

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from planapply.model.node import (
    DEFAULT_DASHBOARD_PORT,
    DEFAULT_PORT,
    TAG_CLUSTER,
    TAG_LINEAGE,
    VM,
    NodeConfig,
)
from planapply.model.state import Resource
from planapply.provider import ErrorKind, ProviderError
from planapply_libcloud.client import Client
from planapply_libcloud.drivers.full import AMONG_THEMSELVES, SELF, FullDriver, Group, Rule
from planapply_libcloud.errors import Gone
from planapply_libcloud.find import seen

NAME = "firewall"
_WORD = "planapply"


def wanted(
    driver: FullDriver, allow_from: Sequence[str], config: NodeConfig
) -> dict[str, Resource]:
    """One, where the spec says who shall be let in."""
    if not allow_from:
        return {}
    ports = [config.options.get("port") or DEFAULT_PORT]
    if config.options.get("dashboard") is not False:
        address = str(config.options.get("dashboard_address") or DEFAULT_DASHBOARD_PORT)
        port = address.rpartition(":")[2]
        ports.append(int(port) if port.isdigit() else DEFAULT_DASHBOARD_PORT)
    detail = {"allow_from": [*allow_from], "ports": ports}
    return {NAME: Resource(kind=driver.group_kind, detail=detail)}


def prepare(client: Client, resource: Resource, tags: Mapping[str, str]) -> Resource:
    """Make the group, or find the one of this name, let in who shall be, and put the VMs into it
    that are there already."""
    driver = _driver(client)
    name = f"{_WORD} {tags[TAG_CLUSTER]} {tags[TAG_LINEAGE]}"
    with client.asking() as lib:
        found = next((group for group in driver.groups(lib) if group.name == name), None)
    if found is None:
        with client.asking(writes=True) as lib:
            id = driver.make_group(lib, name, client.create)
        found = Group(id, name, frozenset())
    _change(client, found, _rules(resource.detail))
    _join(client, found.id, {key: tags[key] for key in (TAG_CLUSTER, TAG_LINEAGE)})
    return Resource(kind=resource.kind, id=found.id, detail=dict(resource.detail))


def allow(client: Client, resource: Resource, network: str | None) -> Resource:
    """One more network; a group that is gone comes back without its id, to be made again."""
    if network is None:
        raise ProviderError(
            ErrorKind.REJECTED,
            "which of this machine's addresses the cloud sees can't be known",
            "Name the network: planapply allow 203.0.113.7",
        )
    try:
        added = str(ipaddress.ip_network(network))
    except ValueError as error:
        raise ProviderError(
            ErrorKind.REJECTED, f"{network!r} is no network", "Write one such as 203.0.113.0/24."
        ) from error
    allowed = [*resource.detail.get("allowed", ())]
    detail = {**resource.detail, "allowed": sorted({*allowed, added})}
    with client.asking() as lib:
        found = _group(client, lib, str(resource.id))
    if found is None:
        return Resource(kind=resource.kind, detail=detail)
    _change(client, found, found.rules | _rules(detail))
    return resource.model_copy(update={"detail": detail})


def find_resources(client: Client, tags: Mapping[str, str]) -> dict[str, Resource]:
    """The cluster's own."""
    driver = _driver(client)
    with client.asking() as lib:
        groups = list(driver.groups(lib))
    for group in groups:
        its = _whose(group)
        if its and tags.items() <= its.items():
            networks = sorted({who for *_, who in group.rules if who != SELF})
            ports = sorted({first for _, first, _, who in group.rules if who != SELF})
            detail = {"allow_from": networks, "ports": ports}
            return {NAME: Resource(kind=driver.group_kind, id=group.id, detail=detail)}
    return {}


def cleanup(client: Client, resource: Resource) -> None:
    """Remove it; one that is in use raises an `unavailable` ProviderError, and those of the
    cluster's VMs that stay leave it."""
    try:
        with client.asking(writes=True) as lib:
            _driver(client).remove_group(lib, str(resource.id))
    except ProviderError as error:
        if isinstance(error, Gone) or "NotFound" in error.summary:
            return
        if "in use" in error.summary.lower() or "DependencyViolation" in error.summary:
            _leave(client, str(resource.id))
            raise _in_use(client, resource, error.summary) from error
        raise


def _in_use(client: Client, resource: Resource, said: str) -> ProviderError:
    """With the VMs that are in it, as far as the cloud tells."""
    with suppress(ProviderError), client.asking() as lib:
        group = _group(client, lib, str(resource.id))
        if group and (names := _driver(client).members(lib, group)):
            said = f"the {resource.kind} {resource.id} is in use by {', '.join(names)}"
    return ProviderError(
        ErrorKind.UNAVAILABLE,
        said,
        "Take out of it what planapply has not made, then repeat this.",
    )


def _join(client: Client, id: str, tags: Mapping[str, str]) -> None:
    driver = _driver(client)

    def join(node: Any, vm: VM) -> None:
        try:
            with client.asking(writes=True) as lib:
                driver.join_group(lib, node, id)
        except Gone as error:
            if vm.status != "stopped":  # no network interface yet, or gone since: look again
                raise ProviderError(ErrorKind.UNAVAILABLE, error.summary) from error

    _with_each(client, tags, join)


def _leave(client: Client, id: str) -> None:
    driver = _driver(client)
    with client.asking() as lib:
        group = _group(client, lib, id)
    tags = _whose(group) if group else {}

    def leave(node: Any, vm: VM) -> None:
        with suppress(Gone), client.asking(writes=True) as lib:
            driver.leave_group(lib, node, id, client.create)

    if tags:
        _with_each(client, tags, leave)


def _with_each(client: Client, tags: Mapping[str, str], do: Callable[[Any, VM], None]) -> None:
    """Of the VMs that are there to stay, side by side."""
    found = [(node, vm) for node, vm in seen(client, tags) if vm.status != "stopping"]
    with ThreadPoolExecutor(client.driver.parallel, thread_name_prefix="planapply") as pool:
        list(pool.map(lambda pair: do(*pair), found))


def _group(client: Client, lib: Any, id: str) -> Group | None:
    return next((group for group in _driver(client).groups(lib) if group.id == id), None)


def _whose(group: Group) -> dict[str, str]:
    """The tags of the cluster that it was made for; empty for one of somebody else's."""
    word, _, rest = group.name.partition(" ")
    cluster, _, lineage = rest.partition(" ")
    return {TAG_CLUSTER: cluster, TAG_LINEAGE: lineage} if word == _WORD and lineage else {}


def _driver(client: Client) -> FullDriver:
    assert isinstance(client.driver, FullDriver)
    return client.driver


def _change(client: Client, group: Group, rules: set[Rule] | frozenset[Rule]) -> None:
    more, less = sorted(rules - group.rules), sorted(group.rules - rules)
    if more or less:
        with client.asking(writes=True) as lib:
            _driver(client).change_group(lib, group, more, less)


def _rules(detail: Mapping[str, Any]) -> set[Rule]:
    networks = {*detail.get("allow_from", ()), *detail.get("allowed", ())}
    ports = detail.get("ports", ())
    return {AMONG_THEMSELVES, *(("tcp", port, port, who) for who in networks for port in ports)}
