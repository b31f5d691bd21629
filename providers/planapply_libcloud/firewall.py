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
from planapply_libcloud.drivers.full import INTERNAL_RULE, SELF, FullDriver, Group, Rule
from planapply_libcloud.errors import NotFound
from planapply_libcloud.find import find_nodes

RESOURCE_NAME = "firewall"
_NAME_PREFIX = "planapply"


def required_resources(
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
    return {RESOURCE_NAME: Resource(kind=driver.group_kind, detail=detail)}


def prepare(client: Client, resource: Resource, tags: Mapping[str, str]) -> Resource:
    """Make the group, or find the one of this name, let in who shall be, and put the VMs into it
    that are there already."""
    driver = _get_full_driver(client)
    name = f"{_NAME_PREFIX} {tags[TAG_CLUSTER]} {tags[TAG_LINEAGE]}"
    with client.borrow_driver() as lib:
        found = next((group for group in driver.list_groups(lib) if group.name == name), None)
    if found is None:
        with client.borrow_driver(writes=True) as lib:
            id = driver.create_group(lib, name, client.create_arguments)
        found = Group(id, name, frozenset())
    _change_rules(client, found, _make_rules(resource.detail))
    _add_vms(client, found.id, {key: tags[key] for key in (TAG_CLUSTER, TAG_LINEAGE)})
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
    with client.borrow_driver() as lib:
        found = _find_group(client, lib, str(resource.id))
    if found is None:
        return Resource(kind=resource.kind, detail=detail)
    _change_rules(client, found, found.rules | _make_rules(detail))
    return resource.model_copy(update={"detail": detail})


def find_resources(client: Client, tags: Mapping[str, str]) -> dict[str, Resource]:
    """The cluster's own."""
    driver = _get_full_driver(client)
    with client.borrow_driver() as lib:
        groups = list(driver.list_groups(lib))
    for group in groups:
        group_tags = _parse_group_tags(group)
        if group_tags and tags.items() <= group_tags.items():
            networks = sorted({source for *_, source in group.rules if source != SELF})
            ports = sorted({first for _, first, _, source in group.rules if source != SELF})
            detail = {"allow_from": networks, "ports": ports}
            return {RESOURCE_NAME: Resource(kind=driver.group_kind, id=group.id, detail=detail)}
    return {}


def cleanup(client: Client, resource: Resource) -> None:
    """Remove it; one that is in use raises an `unavailable` ProviderError, and those of the
    cluster's VMs that stay leave it."""
    try:
        with client.borrow_driver(writes=True) as lib:
            _get_full_driver(client).remove_group(lib, str(resource.id))
    except ProviderError as error:
        if isinstance(error, NotFound) or "NotFound" in error.summary:
            return
        if "in use" in error.summary.lower() or "DependencyViolation" in error.summary:
            _remove_vms(client, str(resource.id))
            raise _make_in_use_error(client, resource, error.summary) from error
        raise


def _make_in_use_error(client: Client, resource: Resource, summary: str) -> ProviderError:
    """With the VMs that are in it, as far as the cloud tells."""
    with suppress(ProviderError), client.borrow_driver() as lib:
        group = _find_group(client, lib, str(resource.id))
        if group and (names := _get_full_driver(client).list_members(lib, group)):
            summary = f"the {resource.kind} {resource.id} is in use by {', '.join(names)}"
    return ProviderError(
        ErrorKind.UNAVAILABLE,
        summary,
        "Take out of it what planapply has not made, then repeat this.",
    )


def _add_vms(client: Client, id: str, tags: Mapping[str, str]) -> None:
    driver = _get_full_driver(client)

    def add(node: Any, vm: VM) -> None:
        try:
            with client.borrow_driver(writes=True) as lib:
                driver.add_to_group(lib, node, id)
        except NotFound as error:
            if vm.status != "stopped":  # no network interface yet, or gone since: look again
                raise ProviderError(ErrorKind.UNAVAILABLE, error.summary) from error

    _for_each_vm(client, tags, add)


def _remove_vms(client: Client, id: str) -> None:
    driver = _get_full_driver(client)
    with client.borrow_driver() as lib:
        group = _find_group(client, lib, id)
    tags = _parse_group_tags(group) if group else {}

    def remove(node: Any, vm: VM) -> None:
        with suppress(NotFound), client.borrow_driver(writes=True) as lib:
            driver.remove_from_group(lib, node, id, client.create_arguments)

    if tags:
        _for_each_vm(client, tags, remove)


def _for_each_vm(
    client: Client, tags: Mapping[str, str], action: Callable[[Any, VM], None]
) -> None:
    """Of the VMs that are there to stay, side by side."""
    found = [(node, vm) for node, vm in find_nodes(client, tags) if vm.status != "stopping"]
    with ThreadPoolExecutor(client.driver.parallel, thread_name_prefix="planapply") as pool:
        list(pool.map(lambda pair: action(*pair), found))


def _find_group(client: Client, lib: Any, id: str) -> Group | None:
    return next(
        (group for group in _get_full_driver(client).list_groups(lib) if group.id == id), None
    )


def _parse_group_tags(group: Group) -> dict[str, str]:
    """The tags of the cluster that it was made for; empty for one of somebody else's."""
    prefix, _, rest = group.name.partition(" ")
    cluster, _, lineage = rest.partition(" ")
    return (
        {TAG_CLUSTER: cluster, TAG_LINEAGE: lineage} if prefix == _NAME_PREFIX and lineage else {}
    )


def _get_full_driver(client: Client) -> FullDriver:
    assert isinstance(client.driver, FullDriver)
    return client.driver


def _change_rules(client: Client, group: Group, rules: set[Rule] | frozenset[Rule]) -> None:
    added, removed = sorted(rules - group.rules), sorted(group.rules - rules)
    if added or removed:
        with client.borrow_driver(writes=True) as lib:
            _get_full_driver(client).change_group(lib, group, added, removed)


def _make_rules(detail: Mapping[str, Any]) -> set[Rule]:
    networks = {*detail.get("allow_from", ()), *detail.get("allowed", ())}
    ports = detail.get("ports", ())
    return {INTERNAL_RULE, *(("tcp", port, port, source) for source in networks for port in ports)}
