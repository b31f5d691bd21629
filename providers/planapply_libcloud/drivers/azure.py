"""Microsoft Azure, its Resource Manager."""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from planapply.provider import ErrorKind, ProviderError
from planapply_libcloud import labels
from planapply_libcloud.drivers.base import Catalog, Driver, LaunchRequest, is_scheduler

STARTER = """\
[provider]
driver = "azure"
key = "env:AZURE_CLIENT_ID"           # of a service principal
secret = "env:AZURE_CLIENT_SECRET"

[provider.options]
tenant_id = "env:AZURE_TENANT_ID"
subscription_id = "env:AZURE_SUBSCRIPTION_ID"
region = "westeurope"

[provider.create]
ex_resource_group = "dask"            # it and its network are there already
ex_network = "dask"
# ex_subnet = "default"
# auth = "ssh-ed25519 AAAA..."        # your public key, for the user azureuser

[defaults]
size = "Standard_D2s_v5"
image = "Canonical:0001-com-ubuntu-server-jammy:22_04-lts-gen2:latest"

[environment]                         # what Python runs on the nodes; a change replaces them
packages = "client"                   # as here; or a list: ["dask[distributed]", "pandas"]
# requirements = "requirements.txt"   # in place of packages
# python = "3.12"                     # in which packages or requirements are installed
# docker = "daskdev/dask:latest"      # in place of packages, requirements and python
"""


@dataclass(frozen=True)
class Azure(Driver):
    """Disk and network interface are asked for so that Azure removes them with their VM."""

    def arguments(self, request: LaunchRequest, create: Mapping[str, Any], catalog: Catalog) -> Any:
        from libcloud.compute.base import NodeAuthPassword, NodeAuthSSHKey

        own = super().arguments(request, create, catalog)
        key = own.get("auth")
        # Azure wants one or the other; a password that nobody is told lets nobody in.
        own["auth"] = (
            NodeAuthSSHKey(key) if key else NodeAuthPassword(f"{secrets.token_urlsafe(40)}aA1!")
        )
        return own

    def fit(self, lib: Any) -> None:
        lib.connection.encode_data = _encoded

    def image(self, lib: Any, name: str) -> Any:
        from libcloud.compute.drivers import azure_arm

        if name.startswith("/subscriptions/"):
            found: Any = azure_arm.AzureComputeGalleryImage("", "", "", "", lib)  # type: ignore[no-untyped-call]
            found.id = name
            return found
        words = name.split(":")
        if len(words) != 4:
            raise ProviderError(
                ErrorKind.REJECTED,
                f"{name!r} is no image of Azure's",
                "Write publisher:offer:sku:version (`latest` will do), or an image's resource id.",
            )
        publisher, offer, sku, version = words
        # Without a look: it would be a call for each version that there ever was.
        return azure_arm.AzureImage(version, sku, offer, publisher, "", lib)  # type: ignore[no-untyped-call]

    def sizes(self, lib: Any, zone: str | None) -> Sequence[Any]:
        from libcloud.compute.base import NodeLocation

        where = NodeLocation(zone, zone, "", lib) if zone else None
        sizes: Sequence[Any] = lib.list_sizes(where)
        return sizes

    def nodes(self, lib: Any, tags: Mapping[str, str], create: Mapping[str, Any]) -> Sequence[Any]:
        # Addresses cost a call or two for each VM: only the scheduler's has to be known.
        nodes: list[Any] = lib.list_nodes(
            ex_resource_group=create.get("ex_resource_group"),
            ex_fetch_nic=False,
            ex_fetch_power_state=False,
        )
        for node in nodes:
            found = self.tags_of(node)
            if is_scheduler(found) and tags.items() <= found.items():
                node.private_ips, node.public_ips = _addresses(lib, node)
        return nodes

    def size_of(self, node: Any) -> str | None:
        return str(node.extra["properties"]["hardwareProfile"]["vmSize"])

    def status_of(self, node: Any) -> str:
        deleting = node.extra["properties"].get("provisioningState", "").lower() == "deleting"
        return "stopping" if deleting else str(node.state)

    def destroy(self, lib: Any, node: Any) -> None:
        lib.destroy_node(node, ex_destroy_nic=False, ex_destroy_vhd=False, ex_destroy_os_disk=False)

    def failed(self, lib: Any, name: str, create: Mapping[str, Any]) -> None:
        # The interface is made first, and would stay.
        if "ex_nic" not in create:
            lib.ex_destroy_nic(
                SimpleNamespace(
                    id=f"/subscriptions/{lib.subscription_id}/resourceGroups/"
                    f"{create.get('ex_resource_group')}/providers/Microsoft.Network/"
                    f"networkInterfaces/{name}-nic"
                )
            )


def _encoded(data: Any) -> str:
    """The driver leaves custom data as bytes, which its own encoder can't write."""
    profile = data.get("properties", {}).get("networkProfile") if isinstance(data, dict) else None
    for interface in (profile or {}).get("networkInterfaces", ()):
        interface["properties"] = {"deleteOption": "Delete"}
    return json.dumps(data, default=lambda value: bytes(value).decode("ascii"))


def _addresses(lib: Any, node: Any) -> tuple[list[str], list[str]]:
    private, public = [], []
    for interface in node.extra["properties"]["networkProfile"]["networkInterfaces"]:
        for config in lib.ex_get_nic(interface["id"]).extra["ipConfigurations"]:
            properties = config["properties"]
            if address := properties.get("privateIPAddress"):
                private.append(address)
            if known := properties.get("publicIPAddress"):
                public.append(lib.ex_get_public_ip(known["id"]).extra.get("ipAddress"))
    return private, public


AZURE = Azure(
    name="azure_arm",
    title="Microsoft Azure",
    proof="the driver's requests, checked against Azure's REST reference",
    starter=STARTER,
    key_names=("key", "secret"),
    has_sessions=True,
    identity=("subscription_id", "region"),
    user_data="ex_customdata",
    takes_bytes=True,
    user_data_limit=65535,
    tags="ex_tags",
    tag_form=labels.Pairs(keys=r"[^<>%&\\?/]{1,512}", most=50),
    zone="location",
    seen_zone="location",
    disk="ex_disk_size",
    always={"ex_use_managed_disks": True, "ex_os_disk_delete": True},
    requires={"ex_resource_group": '"dask"'},
    longest_name=60,
    parallel=8,
    off_costs="is paid for as long as it is not deallocated",
    destroys_by_id=False,
    definite={
        "SkuNotAvailable": ErrorKind.CAPACITY,
        "AllocationFailed": ErrorKind.CAPACITY,
        "ZonalAllocationFailed": ErrorKind.CAPACITY,
        "OverconstrainedAllocationRequest": ErrorKind.CAPACITY,
        "QuotaExceeded": ErrorKind.QUOTA,
        "OperationNotAllowed": ErrorKind.QUOTA,
        "InvalidParameter": ErrorKind.REJECTED,
        "ResourceGroupNotFound": ErrorKind.REJECTED,
    },
)
