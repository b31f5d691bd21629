"""Launch of one VM by one create_node call, which is never sent twice for an existing VM."""

from dataclasses import replace
from typing import Any

from planapply.provider import ErrorKind, LaunchRequest, LaunchResult, ProviderError
from planapply.providerkit import TAG_BATCH, TAG_STATE, VM, NodeConfig
from planapply_libcloud.catalog import Catalog
from planapply_libcloud.client import Client
from planapply_libcloud.drivers.base import Lookups
from planapply_libcloud.drivers.full import FullDriver
from planapply_libcloud.find import find, make_vm
from planapply_libcloud.firewall import RESOURCE_NAME as GROUP
from planapply_libcloud.nested import merge


def launch(client: Client, catalog: Catalog, request: LaunchRequest) -> LaunchResult:
    """Launch the VM; raise ProviderError if there is none.

    The batch has one name. If this process has requested the name before, it first looks for the VM.
    """
    driver = client.driver
    name = driver.node_name(request)
    requested_names = client.cache.get("requested names", set[str])
    if name in requested_names and (existing := _find_batch(client, request)):
        return LaunchResult(existing)
    arguments = make_arguments(client, catalog, request)
    requested_names.add(name)
    try:
        with client.borrow_driver(writes=True) as lib:
            node = lib.create_node(**arguments)
            node = node[0] if isinstance(node, list) and node else node
            if node:
                driver.on_created(lib, node, name)
    except ProviderError as error:
        if error.kind is not ErrorKind.UNKNOWN:
            _clean_up(client, name, request)
        raise
    if not node or node.id is None:
        # Some drivers do not return a complete node.
        if existing := _find_batch(client, request):
            return LaunchResult(existing)
        raise ProviderError(ErrorKind.UNKNOWN, f"{client.cloud} did not return the VM it created")
    return LaunchResult((_make_launched_vm(client, node, request),))


def _find_batch(client: Client, request: LaunchRequest) -> tuple[VM, ...]:
    return tuple(
        vm for vm in find(client, {TAG_BATCH: request.token}) if vm.token in (None, request.token)
    )


def make_arguments(client: Client, catalog: Catalog, request: LaunchRequest) -> dict[str, Any]:
    """Return all arguments of `create_node`."""
    driver, create = client.driver, merge_create(client, request.config)
    if driver.has_tags and driver.check_tags(request.tags):
        # Clouds differ in the length and the number of tags, and this one is for display only.
        tags = {key: value for key, value in request.tags.items() if key != TAG_STATE}
        request = replace(request, tags=tags)
    own_group = request.resources.get(GROUP)
    if own_group is not None and own_group.id and isinstance(driver, FullDriver):
        create = merge(create, driver.group_arguments(own_group.id, create))
    zone = request.choice.zone
    lookups = Lookups(
        size=lambda name: catalog.size(name, zone),
        image=catalog.image,
        location=catalog.location,
        network=catalog.network,
    )
    arguments: dict[str, Any] = driver.make_arguments(request, create, lookups)
    return arguments


def merge_create(client: Client, config: NodeConfig) -> dict[str, Any]:
    """Return the spec's arguments of `create_node`: the provider's, and the node's own."""
    create = merge(config.provider.get("create", {}), config.create)
    resolved: dict[str, Any] = client.resolve(create)
    return resolved


def _make_launched_vm(client: Client, node: Any, request: LaunchRequest) -> VM:
    vm = make_vm(client, node, request.tags)
    if vm is None:
        raise ProviderError(
            ErrorKind.TOKEN_SPENT, f"VM {node.id} was terminated right after its launch"
        )
    update = {
        "size": request.choice.size or vm.size,
        "zone": request.choice.zone or vm.zone,
        "spot": request.choice.spot,
    }
    return vm.model_copy(update=update)


def _clean_up(client: Client, name: str, request: LaunchRequest) -> None:
    try:
        with client.borrow_driver(writes=True) as lib:
            client.driver.clean_up_failed(lib, name, merge_create(client, request.config))
    except ProviderError:
        return  # what is left costs nothing; report the launch's own error
