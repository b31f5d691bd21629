"""Driver for Microsoft Azure (Resource Manager)."""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from planapply.provider import ErrorKind
from planapply.providerkit import STARTER_ENVIRONMENT, rejection
from planapply_libcloud import labels
from planapply_libcloud.drivers.base import Driver, LaunchRequest, Lookups, is_scheduler

STARTER = f"""\
[provider]
driver = "azure"
key = "env:AZURE_CLIENT_ID"           # of a service principal
secret = "env:AZURE_CLIENT_SECRET"

[provider.options]
tenant_id = "env:AZURE_TENANT_ID"
subscription_id = "env:AZURE_SUBSCRIPTION_ID"
region = "westeurope"

[provider.create]
ex_resource_group = "dask"            # existing; so is its network
ex_network = "dask"
# ex_subnet = "default"
# auth = "ssh-ed25519 AAAA..."        # your public key, for the user azureuser

[defaults]
size = "Standard_D2s_v5"
image = "Canonical:0001-com-ubuntu-server-jammy:22_04-lts-gen2:latest"

{STARTER_ENVIRONMENT}"""


@dataclass(frozen=True)
class Azure(Driver):
    """Driver whose disks and network interfaces Azure deletes with their VM."""

    def make_arguments(
        self, request: LaunchRequest, create: Mapping[str, Any], lookups: Lookups
    ) -> Any:
        from libcloud.compute.base import NodeAuthPassword, NodeAuthSSHKey

        arguments = super().make_arguments(request, create, lookups)
        key = arguments.get("auth")
        # Azure requires one of the two; with a random password, no one can log in.
        arguments["auth"] = (
            NodeAuthSSHKey(key) if key else NodeAuthPassword(f"{secrets.token_urlsafe(40)}aA1!")
        )
        return arguments

    def patch_driver(self, lib: Any) -> None:
        lib.connection.encode_data = _encode

    def find_image(self, lib: Any, name: str) -> Any:
        from libcloud.compute.drivers import azure_arm

        if name.startswith("/subscriptions/"):
            found: Any = azure_arm.AzureComputeGalleryImage("", "", "", "", lib)  # type: ignore[no-untyped-call]
            found.id = name
            return found
        parts = name.split(":")
        if len(parts) != 4:
            raise rejection(
                f"{name!r} is not an Azure image",
                "Write publisher:offer:sku:version (the version may be `latest`), or an image's "
                "resource ID.",
            )
        publisher, offer, sku, version = parts
        # It is not looked up: that would need a request for each version.
        return azure_arm.AzureImage(version, sku, offer, publisher, "", lib)  # type: ignore[no-untyped-call]

    def list_sizes(self, lib: Any, zone: str | None) -> Sequence[Any]:
        from libcloud.compute.base import NodeLocation

        location = NodeLocation(zone, zone, "", lib) if zone else None
        sizes: Sequence[Any] = lib.list_sizes(location)
        return sizes

    def list_nodes(
        self, lib: Any, tags: Mapping[str, str], create: Mapping[str, Any]
    ) -> Sequence[Any]:
        # Addresses need a request or two per VM, and only the scheduler's is needed.
        nodes: list[Any] = lib.list_nodes(
            ex_resource_group=create.get("ex_resource_group"),
            ex_fetch_nic=False,
            ex_fetch_power_state=False,
        )
        for node in nodes:
            found = self.tags_of(node)
            if is_scheduler(found) and tags.items() <= found.items():
                node.private_ips, node.public_ips = _read_addresses(lib, node)
        return nodes

    def size_of(self, node: Any) -> str | None:
        return str(node.extra["properties"]["hardwareProfile"]["vmSize"])

    def status_of(self, node: Any) -> str:
        deleting = node.extra["properties"].get("provisioningState", "").lower() == "deleting"
        return "stopping" if deleting else str(node.state)

    def destroy(self, lib: Any, node: Any) -> None:
        lib.destroy_node(node, ex_destroy_nic=False, ex_destroy_vhd=False, ex_destroy_os_disk=False)

    def clean_up_failed(self, lib: Any, name: str, create: Mapping[str, Any]) -> None:
        # The interface is created first, and would remain.
        if "ex_nic" not in create:
            lib.ex_destroy_nic(
                SimpleNamespace(
                    id=f"/subscriptions/{lib.subscription_id}/resourceGroups/"
                    f"{create.get('ex_resource_group')}/providers/Microsoft.Network/"
                    f"networkInterfaces/{name}-nic"
                )
            )


def _encode(data: Any) -> str:
    """Return the request as JSON; the driver's own encoder cannot write custom data in bytes."""
    profile = data.get("properties", {}).get("networkProfile") if isinstance(data, dict) else None
    for interface in (profile or {}).get("networkInterfaces", ()):
        interface["properties"] = {"deleteOption": "Delete"}
    return json.dumps(data, default=lambda value: bytes(value).decode("ascii"))


def _read_addresses(lib: Any, node: Any) -> tuple[list[str], list[str]]:
    private, public = [], []
    for interface in node.extra["properties"]["networkProfile"]["networkInterfaces"]:
        for config in lib.ex_get_nic(interface["id"]).extra["ipConfigurations"]:
            properties = config["properties"]
            if address := properties.get("privateIPAddress"):
                private.append(address)
            if public_ip := properties.get("publicIPAddress"):
                public.append(lib.ex_get_public_ip(public_ip["id"]).extra.get("ipAddress"))
    return private, public


AZURE = Azure(
    name="azure_arm",
    title="Microsoft Azure",
    tested_on="the driver's requests, checked against Azure's REST reference",
    starter=STARTER,
    key_names=("key", "secret"),
    has_sessions=True,
    identity=("subscription_id", "region"),
    user_data="ex_customdata",
    has_binary_user_data=True,
    user_data_limit=65535,
    tags="ex_tags",
    tag_format=labels.TagPairs(key_pattern=r"[^<>%&\\?/]{1,512}", max_tags=50),
    zone="location",
    zone_path="location",
    disk="ex_disk_size",
    fixed_arguments={"ex_use_managed_disks": True, "ex_os_disk_delete": True},
    required_arguments={"ex_resource_group": '"dask"'},
    max_name_length=60,
    parallel=8,
    cost_when_off="costs money until it is deallocated",
    is_destroyed_by_id=False,
    error_kinds={
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
