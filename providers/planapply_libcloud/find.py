"""Discovery of VMs; the number of calls does not grow with the number of VMs."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Literal

from planapply.provider import ProviderError
from planapply.providerkit import TAG_LINEAGE, VM
from planapply_libcloud import labels
from planapply_libcloud.catalog import Catalog
from planapply_libcloud.client import Client

Status = Literal["pending", "running", "stopping", "stopped"]
_STATUS: Mapping[str, Status] = {
    "running": "running",
    "rebooting": "running",
    "unknown": "running",  # it exists, and it costs money
    "reconfiguring": "running",
    "migrating": "running",
    "updating": "running",
    "normal": "running",
    "starting": "pending",
    "pending": "pending",
    "stopping": "stopping",
    "shutting-down": "stopping",
    "stopped": "stopped",
    "suspended": "stopped",
    "paused": "stopped",
    "error": "stopped",
}


def find(client: Client, tags: Mapping[str, str]) -> list[VM]:
    """Return every VM that has all of `tags` and is not terminated."""
    return [vm for _, vm in find_nodes(client, tags)]


def find_nodes(client: Client, tags: Mapping[str, str]) -> list[tuple[Any, VM]]:
    """Return the same VMs, each with Libcloud's node."""
    driver, filter_tags = client.driver, dict(tags)
    if not driver.has_tags and TAG_LINEAGE in filter_tags:
        filter_tags[TAG_LINEAGE] = labels.lineage_digest(filter_tags[TAG_LINEAGE])
    with client.borrow_driver() as lib:
        nodes = driver.list_nodes(
            lib, filter_tags if driver.has_tags else {}, client.create_arguments
        )
        found = [(node, vm) for node in nodes if (vm := make_vm(client, node)) is not None]
    matching = [(node, vm) for node, vm in found if filter_tags.items() <= vm.tags.items()]
    full_lineage = {TAG_LINEAGE: tags[TAG_LINEAGE]} if TAG_LINEAGE in tags else {}
    return [
        (
            n,
            vm.model_copy(
                update={
                    "tags": {**vm.tags, **full_lineage},
                    "size": _find_size_name(client, vm.size),
                }
            ),
        )
        for n, vm in matching
    ]


def _find_size_name(client: Client, size: str | None) -> str | None:
    """Return the name of a size by its ID, or the ID if the cloud does not report the name."""
    if size is None or not client.driver.has_only_size_id:
        return size
    with suppress(ProviderError):
        return str(Catalog(client).size(size).name)
    return size


def make_vm(client: Client, node: Any, tags: Mapping[str, str] | None = None) -> VM | None:
    """Return the VM of a node; None if it is terminated or not planapply's.

    `tags` are the node's tags, if they are known.
    """
    driver = client.driver
    known_tags = dict(tags) if tags is not None else driver.tags_of(node)
    status = driver.status_of(node)
    if status == "terminated" or not known_tags:
        return None
    created = node.created_at
    return VM(
        id=str(node.id),
        status=_STATUS.get(status, "running"),
        tags=known_tags,
        private_address=_pick_address(node.private_ips) or _pick_address(node.public_ips),
        public_address=_pick_address(node.public_ips),
        size=driver.size_of(node),
        zone=driver.zone_of(node),
        token=driver.token_of(node),
        spot=driver.is_spot(node),
        launched_at=created.timestamp() if isinstance(created, datetime) else None,
    )


def _pick_address(addresses: Iterable[Any] | None) -> str | None:
    """Return an IPv4 address if there is one: every client's network supports it."""
    found = [str(address) for address in addresses or () if address]
    return next((a for a in found if ":" not in a), found[0] if found else None)
