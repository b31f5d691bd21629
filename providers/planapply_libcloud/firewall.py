"""Access to the scheduler: a security group or firewall rules of the cluster."""

from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from planapply.provider import ErrorKind, ProviderError
from planapply.providerkit import (
    TAG_CLUSTER,
    TAG_LINEAGE,
    VM,
    NodeConfig,
    Resource,
    Rule,
    allow_network,
    client_rules,
    disallow_network,
    rejection,
    scheduler_ports,
)
from planapply_libcloud.client import Client
from planapply_libcloud.drivers.full import INTERNAL_RULE, SELF, FullDriver, Group
from planapply_libcloud.errors import NotFound
from planapply_libcloud.find import find_nodes

RESOURCE_NAME = "firewall"
_NAME_PREFIX = "planapply"


def required_resources(
    driver: FullDriver, allow_from: Sequence[str], config: NodeConfig
) -> dict[str, Resource]:
    """Return a firewall if the spec has `allow_from`."""
    if not allow_from:
        return {}
    detail = {"allow_from": [*allow_from], "ports": scheduler_ports(config.options)}
    return {RESOURCE_NAME: Resource(kind=driver.group_kind, detail=detail)}


def prepare(client: Client, resource: Resource, tags: Mapping[str, str]) -> Resource:
    """Create the group, or find it by its name; update its rules, and add the VMs that exist."""
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
    """Allow one more network."""
    allowed = allow_network(resource, _require_name(network))
    return _change_access(client, allowed, added=_make_rules(allowed.detail))


def disallow(client: Client, resource: Resource, network: str | None) -> Resource:
    """Remove a network that `allow` has added."""
    reduced = disallow_network(resource, _require_name(network))
    removed = _make_rules(resource.detail) - _make_rules(reduced.detail)
    return _change_access(client, reduced, removed=removed)


def _change_access(
    client: Client,
    changed: Resource,
    added: Set[Rule] = frozenset(),
    removed: Set[Rule] = frozenset(),
) -> Resource:
    """Add and remove rules of the group, and return the changed resource.

    A group that does not exist any more is returned without its ID: `prepare` creates it again.
    """
    with client.borrow_driver() as lib:
        found = _find_group(client, lib, str(changed.id))
    if found is None:
        return Resource(kind=changed.kind, detail=changed.detail)
    _change_rules(client, found, found.rules - removed | added)
    return changed


def _require_name(network: str | None) -> str:
    if network is None:
        raise rejection(
            "cannot detect which of this machine's addresses the cloud sees",
            "Name the network, such as 203.0.113.7.",
        )
    return network


def find_resources(client: Client, tags: Mapping[str, str]) -> dict[str, Resource]:
    """Return the cluster's own group, by its name."""
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
    """Delete the group.

    If it is in use, remove the cluster's remaining VMs from it, and raise an unavailable
    ProviderError.
    """
    driver, id = _get_full_driver(client), str(resource.id)
    try:
        with client.borrow_driver(writes=True) as lib:
            driver.remove_group(lib, id)
    except NotFound:
        return
    except ProviderError as error:
        # Not every cloud's error says that the group is in use; its members do.
        members = _list_members(client, id) if error.kind in _MAY_BE_IN_USE else ()
        if not members and not (driver.in_use_code and error.code == driver.in_use_code):
            raise
        _remove_vms(client, id)
        members = _list_members(client, id)  # of others
        summary = f"{resource.kind} {id} is in use by {', '.join(members)}"
        raise ProviderError(
            ErrorKind.UNAVAILABLE,
            summary if members else error.summary,
            "Detach what planapply did not create from it, then retry.",
            code=error.code,
        ) from error


_MAY_BE_IN_USE = (ErrorKind.REJECTED, ErrorKind.UNAVAILABLE)


def _list_members(client: Client, id: str) -> Sequence[str]:
    """Return the VMs in the group, as far as the cloud reports them."""
    with suppress(ProviderError), client.borrow_driver() as lib:
        group = _find_group(client, lib, id)
        return _get_full_driver(client).list_members(lib, group) if group else ()
    return ()


def _add_vms(client: Client, id: str, tags: Mapping[str, str]) -> None:
    driver = _get_full_driver(client)

    def add(node: Any, vm: VM) -> None:
        try:
            with client.borrow_driver(writes=True) as lib:
                driver.add_to_group(lib, node, id)
        except NotFound as error:
            if vm.status != "stopped":  # it has no network interface yet, or is gone: retry
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
    """Run the action in parallel for the VMs that are not being terminated."""
    found = [(node, vm) for node, vm in find_nodes(client, tags) if vm.status != "stopping"]
    with ThreadPoolExecutor(client.driver.parallel, thread_name_prefix="planapply") as pool:
        list(pool.map(lambda pair: action(*pair), found))


def _find_group(client: Client, lib: Any, id: str) -> Group | None:
    return next(
        (group for group in _get_full_driver(client).list_groups(lib) if group.id == id), None
    )


def _parse_group_tags(group: Group) -> dict[str, str]:
    """Return the tags of the group's cluster; empty for a group that is not planapply's."""
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
    return {INTERNAL_RULE, *client_rules(detail)}
