"""One create_node for each name, and a look before a second one of the same name."""

from typing import Any

from planapply.model.node import TAG_BATCH, VM, NodeConfig
from planapply.model.state import Choice
from planapply.provider import ErrorKind, LaunchRequest, LaunchResult, ProviderError
from planapply_libcloud.catalog import Names
from planapply_libcloud.client import Client
from planapply_libcloud.drivers.base import Catalog
from planapply_libcloud.drivers.full import FullDriver
from planapply_libcloud.find import find, vm_of
from planapply_libcloud.firewall import NAME as GROUP
from planapply_libcloud.nested import merged


def alternatives(config: NodeConfig) -> list[Choice]:
    """Each size in each zone, in the order of the spec; all as spot before any on demand."""
    markets = [True, False] if config.spot == "prefer" else [bool(config.spot)]
    return [
        Choice(size=size, zone=zone, spot=spot)
        for spot in markets
        for size in config.size or (None,)
        for zone in config.zones or (None,)
    ]


def launch(client: Client, names: Names, request: LaunchRequest) -> LaunchResult:
    """Raises ProviderError where there is no VM; of one name, since each VM has its own user data.

    A name that was asked for in this process before is looked for first.
    """
    driver = client.driver
    name = driver.node_name(request)
    asked = client.remember("asked", set[str])
    if name in asked:
        there = find(client, {TAG_BATCH: request.token})
        if there:
            return LaunchResult(tuple(there))
    arguments = arguments_of(client, names, request)
    asked.add(name)
    try:
        with client.asking(writes=True) as lib:
            node = lib.create_node(**arguments)
            node = node[0] if isinstance(node, list) and node else node
            if node:
                driver.created(lib, node, name)
    except ProviderError as error:
        if error.kind is not ErrorKind.UNKNOWN:
            _clean_up(client, name, request)
        raise
    if not node or node.id is None:
        # Some drivers answer with less than a node.
        there = find(client, {TAG_BATCH: request.token})
        if there:
            return LaunchResult(tuple(there))
        raise ProviderError(ErrorKind.UNKNOWN, f"{client.cloud} did not say what it has created")
    return LaunchResult((_launched(client, node, request),))


def arguments_of(client: Client, names: Names, request: LaunchRequest) -> dict[str, Any]:
    """Of create_node, whole."""
    driver, create = client.driver, create_of(client, request.config)
    made = request.resources.get(GROUP)
    if made is not None and made.id and isinstance(driver, FullDriver):
        create = merged(create, driver.in_group(made.id, create))
    zone = request.choice.zone
    catalog = Catalog(
        size=lambda name: names.size(name, zone),
        image=names.image,
        location=names.location,
        network=names.network,
    )
    arguments: dict[str, Any] = driver.arguments(request, create, catalog)
    return arguments


def create_of(client: Client, config: NodeConfig) -> dict[str, Any]:
    """The spec's arguments for create_node: the provider's, and the node's own."""
    create = merged(config.provider.get("create", {}), config.create)
    resolved: dict[str, Any] = client.resolved(create)
    return resolved


def _launched(client: Client, node: Any, request: LaunchRequest) -> VM:
    vm = vm_of(client, node, request.tags)
    if vm is None:
        raise ProviderError(ErrorKind.SPENT, f"the VM {node.id} has ended at once")
    update = {
        "size": request.choice.size or vm.size,
        "zone": request.choice.zone or vm.zone,
        "spot": request.choice.spot,
    }
    return vm.model_copy(update=update)


def _clean_up(client: Client, name: str, request: LaunchRequest) -> None:
    try:
        with client.asking(writes=True) as lib:
            client.driver.failed(lib, name, create_of(client, request.config))
    except ProviderError:
        return  # it costs nothing; the launch's own error is the one to be told
