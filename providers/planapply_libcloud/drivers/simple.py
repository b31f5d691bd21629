"""Drivers that need only an entry in the table: a new cloud is one entry here, and one test."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from planapply.provider import ErrorKind
from planapply.providerkit import STARTER_ENVIRONMENT
from planapply_libcloud import labels
from planapply_libcloud.drivers.base import Driver, LaunchRequest, Lookups

CHECKED_REQUESTS = "the driver's requests, checked against the cloud's API reference"
DIGITALOCEAN_STARTER = f"""\
[provider]
driver = "digitalocean"
key = "env:DIGITALOCEAN_TOKEN"

[defaults]
size = "s-2vcpu-4gb"
image = "debian-12-x64"
zones = ["fra1"]                      # the region

{STARTER_ENVIRONMENT}"""


@dataclass(frozen=True)
class DigitalOcean(Driver):
    """Driver that identifies the account by its ID."""

    def make_arguments(
        self, request: LaunchRequest, create: Mapping[str, Any], lookups: Lookups
    ) -> Any:
        arguments = super().make_arguments(request, create, lookups)
        if slug := arguments["image"].extra.get("slug"):
            # Libcloud sends an ID as text, which the API would read as a slug.
            arguments["image"] = SimpleNamespace(id=slug)
        return arguments

    def find_account(self, lib: Any) -> dict[str, str]:
        return {"account": str(lib.ex_account_info()["uuid"])}


@dataclass(frozen=True)
class Linode(Driver):
    """Driver that must set a root password, here a random one."""

    def make_arguments(
        self, request: LaunchRequest, create: Mapping[str, Any], lookups: Lookups
    ) -> Any:
        arguments = super().make_arguments(request, create, lookups)
        return {"root_pass": secrets.token_urlsafe(32), **arguments}


@dataclass(frozen=True)
class UpCloud(Driver):
    """Driver whose sizes and prices depend on the zone."""

    def list_sizes(self, lib: Any, zone: str | None) -> Sequence[Any]:
        from libcloud.compute.base import NodeLocation

        location = NodeLocation(zone, zone, "", lib) if zone else None
        sizes: Sequence[Any] = lib.list_sizes(location)
        return sizes


@dataclass(frozen=True)
class Dummy(Driver):
    """Driver that names every node dummy-N."""

    def on_created(self, lib: Any, node: Any, name: str) -> None:
        node.name = name


_JOB_ERRORS = {
    "Insufficient": ErrorKind.CAPACITY,
    "Unable to create a deployment": ErrorKind.CAPACITY,
    "Maximum number of resources": ErrorKind.QUOTA,
}

SIMPLE_DRIVERS = (
    DigitalOcean(
        name="digitalocean",
        title="DigitalOcean",
        tested_on=CHECKED_REQUESTS,
        starter=DIGITALOCEAN_STARTER,
        user_data="ex_user_data",
        user_data_limit=65536,
        tags="ex_create_attr.tags",
        tag_format=labels.FlatTags(255),
        size_path="size_slug",
        zone_path="region",
        needs_zone=True,
        price_source="cloud",
        rate=(50.0, 4.0),
    ),
    Linode(
        name="linode",
        title="Linode (Akamai)",
        tested_on=CHECKED_REQUESTS,
        user_data="ex_userdata",
        tags="ex_tags",
        tag_format=labels.FlatTags(50, "pa:"),
        zone_path="location",
        needs_zone=True,
        price_source="cloud",
    ),
    Driver(
        name="vultr",
        title="Vultr",
        tested_on=CHECKED_REQUESTS,
        user_data="ex_userdata",
        zone_path="location",
        needs_zone=True,
        price_source="cloud",
        has_monthly_prices=True,
        is_destroyed_by_id=False,
    ),
    Driver(
        name="scaleway",
        title="Scaleway",
        tested_on=CHECKED_REQUESTS,
        tags="ex_tags",
        tag_format=labels.FlatTags(128),
        zone="region",
        zone_path="region",
        price_source="cloud",
    ),
    Driver(
        name="equinixmetal",
        title="Equinix Metal",
        tested_on=CHECKED_REQUESTS,
        user_data="cloud_init",
        needs_zone=True,
        # Without it, the driver's list_nodes fails on Python 3.11 or later.
        required_arguments={"ex_project_id": '"3d27fd13-…"'},
        list_nodes_arguments=("ex_project_id",),
        size_path="plan",
        zone_path="metro.code",
        price_source="cloud",
    ),
    Driver(
        name="exoscale",
        title="Exoscale",
        tested_on=CHECKED_REQUESTS,
        user_data="ex_userdata",
        has_binary_user_data=True,
        # Sent in the URL of a GET, which allows 4 KB of base64.
        user_data_limit=3072,
        fixed_arguments={"ex_start_vm": True},
        zone_path="zone_name",
        has_writes_by_get=True,
        error_kinds=_JOB_ERRORS,
    ),
    Driver(
        name="cloudstack",
        title="Apache CloudStack",
        tested_on=CHECKED_REQUESTS,
        user_data="ex_userdata",
        has_binary_user_data=True,
        user_data_limit=3072,
        fixed_arguments={"ex_start_vm": True},
        identity=("url", "host"),
        list_nodes_arguments=("project",),
        zone_path="zone_name",
        has_writes_by_get=True,
        error_kinds=_JOB_ERRORS,
    ),
    Driver(
        name="ovh",
        title="OVHcloud",
        tested_on=CHECKED_REQUESTS,
        identity=("ex_project_id", "region"),
        needs_zone=True,
        zone_path="region",
    ),
    UpCloud(
        name="upcloud",
        title="UpCloud",
        tested_on=CHECKED_REQUESTS,
        is_key_public=True,
        needs_zone=True,
    ),
    Driver(
        name="kamatera",
        title="Kamatera",
        needs_zone=True,
        fixed_arguments={"ex_wait": False},
    ),
    Dummy(
        name="dummy",
        title="Libcloud's own for tests",
        tested_on="the driver itself",
        is_key_public=True,
        zone="",
        parallel=1,
        consistency_delay=0.0,
        poll=0.1,
        is_destroyed_by_id=False,
    ),
)
