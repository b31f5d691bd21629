"""What exists, in a number of calls that does not grow with the number of VMs."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Literal

from planapply.model.node import TAG_LINEAGE, VM
from planapply.provider import ProviderError
from planapply_libcloud import labels
from planapply_libcloud.catalog import Names
from planapply_libcloud.client import Client

Status = Literal["pending", "running", "stopping", "stopped"]
_STATUS: Mapping[str, Status] = {
    "running": "running",
    "rebooting": "running",
    "unknown": "running",  # it is there, and it costs
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
    """Every VM with these tags that is not terminated."""
    return [vm for _, vm in seen(client, tags)]


def seen(client: Client, tags: Mapping[str, str]) -> list[tuple[Any, VM]]:
    """The same, each with Libcloud's node."""
    driver, wanted = client.driver, dict(tags)
    if not driver.keeps_tags and TAG_LINEAGE in wanted:
        wanted[TAG_LINEAGE] = labels.lineage_digest(wanted[TAG_LINEAGE])
    with client.asking() as lib:
        nodes = driver.nodes(lib, wanted if driver.keeps_tags else {}, client.create)
        found = [(node, vm) for node in nodes if (vm := vm_of(client, node)) is not None]
    matching = [(node, vm) for node, vm in found if wanted.items() <= vm.tags.items()]
    whole = {TAG_LINEAGE: tags[TAG_LINEAGE]} if TAG_LINEAGE in tags else {}
    return [
        (n, vm.model_copy(update={"tags": {**vm.tags, **whole}, "size": _name(client, vm.size)}))
        for n, vm in matching
    ]


def _name(client: Client, size: str | None) -> str | None:
    """What people call it; what the cloud does not tell of a size that it has is no reason to fail."""
    if size is None or not client.driver.sizes_by_id:
        return size
    with suppress(ProviderError):
        return str(Names(client).size(size).name)
    return size


def vm_of(client: Client, node: Any, tags: Mapping[str, str] | None = None) -> VM | None:
    """A node as the port has it; None where it is terminated or none of planapply's.

    `tags` are those that it is known to have.
    """
    driver = client.driver
    known = dict(tags) if tags is not None else driver.tags_of(node)
    status = driver.status_of(node)
    if status == "terminated" or not known:
        return None
    created = node.created_at
    return VM(
        id=str(node.id),
        status=_STATUS.get(status, "running"),
        tags=known,
        private_address=_first(node.private_ips) or _first(node.public_ips),
        public_address=_first(node.public_ips),
        size=driver.size_of(node),
        zone=driver.zone_of(node),
        spot=driver.is_spot(node),
        launched_at=created.timestamp() if isinstance(created, datetime) else None,
    )


def _first(addresses: Iterable[Any] | None) -> str | None:
    """IPv4 where there is one: it is what a client's network has for sure."""
    found = [str(address) for address in addresses or () if address]
    return next((a for a in found if ":" not in a), found[0] if found else None)
