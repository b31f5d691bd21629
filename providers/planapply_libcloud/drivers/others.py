"""The rest of the table: a new cloud is one entry here, and one test."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from planapply.provider import ErrorKind
from planapply_libcloud import labels
from planapply_libcloud.drivers.base import Catalog, Driver, LaunchRequest

REQUESTS = "the driver's requests, checked against the cloud's API reference"
DIGITALOCEAN_STARTER = """\
[provider]
driver = "digitalocean"
key = "env:DIGITALOCEAN_TOKEN"

[defaults]
size = "s-2vcpu-4gb"
image = "debian-12-x64"
zones = ["fra1"]                      # the region

[environment]                         # what Python runs on the nodes; a change replaces them
packages = "client"                   # as here; or a list: ["dask[distributed]", "pandas"]
# requirements = "requirements.txt"   # in place of packages
# python = "3.12"                     # in which packages or requirements are installed
# docker = "daskdev/dask:latest"      # in place of packages, requirements and python
"""


@dataclass(frozen=True)
class DigitalOcean(Driver):
    """Its account has a name, which a token has not."""

    def arguments(self, request: LaunchRequest, create: Mapping[str, Any], catalog: Catalog) -> Any:
        own = super().arguments(request, create, catalog)
        if slug := own["image"].extra.get("slug"):
            # Libcloud makes text of an id, which the API reads as a slug.
            own["image"] = SimpleNamespace(id=slug)
        return own

    def account(self, lib: Any) -> dict[str, str]:
        return {"account": str(lib.ex_account_info()["uuid"])}


@dataclass(frozen=True)
class Linode(Driver):
    """An image needs a root password: one that nobody is told."""

    def arguments(self, request: LaunchRequest, create: Mapping[str, Any], catalog: Catalog) -> Any:
        own = super().arguments(request, create, catalog)
        return {"root_pass": secrets.token_urlsafe(32), **own}


@dataclass(frozen=True)
class UpCloud(Driver):
    """Its price list is by zone."""

    def sizes(self, lib: Any, zone: str | None) -> Sequence[Any]:
        from libcloud.compute.base import NodeLocation

        where = NodeLocation(zone, zone, "", lib) if zone else None
        sizes: Sequence[Any] = lib.list_sizes(where)
        return sizes


@dataclass(frozen=True)
class Dummy(Driver):
    """It calls every node dummy-N."""

    def created(self, lib: Any, node: Any, name: str) -> None:
        node.name = name


_JOBS = {
    "Insufficient": ErrorKind.CAPACITY,
    "Unable to create a deployment": ErrorKind.CAPACITY,
    "Maximum number of resources": ErrorKind.QUOTA,
}

OTHERS = (
    DigitalOcean(
        name="digitalocean",
        title="DigitalOcean",
        proof=REQUESTS,
        starter=DIGITALOCEAN_STARTER,
        user_data="ex_user_data",
        user_data_limit=65536,
        tags="ex_create_attr.tags",
        tag_form=labels.Flat(255),
        seen_size="size_slug",
        seen_zone="region",
        needs_zone=True,
        prices="cloud",
        rate=(50.0, 4.0),
    ),
    Linode(
        name="linode",
        title="Linode (Akamai)",
        proof=REQUESTS,
        user_data="ex_userdata",
        tags="ex_tags",
        tag_form=labels.Flat(50, "pa:"),
        seen_zone="location",
        needs_zone=True,
        prices="cloud",
    ),
    Driver(
        name="vultr",
        title="Vultr",
        proof=REQUESTS,
        user_data="ex_userdata",
        seen_zone="location",
        needs_zone=True,
        prices="cloud",
        monthly=True,
        destroys_by_id=False,
    ),
    Driver(
        name="scaleway",
        title="Scaleway",
        proof=REQUESTS,
        tags="ex_tags",
        tag_form=labels.Flat(128),
        zone="region",
        seen_zone="region",
        prices="cloud",
    ),
    Driver(
        name="equinixmetal",
        title="Equinix Metal",
        proof=REQUESTS,
        user_data="cloud_init",
        needs_zone=True,
        # Without it, the driver's list_nodes needs a Python before 3.11.
        requires={"ex_project_id": '"3d27fd13-…"'},
        listing=("ex_project_id",),
        seen_size="plan",
        seen_zone="metro.code",
        prices="cloud",
    ),
    Driver(
        name="exoscale",
        title="Exoscale",
        proof=REQUESTS,
        user_data="ex_userdata",
        takes_bytes=True,
        # In the address of a GET, which takes 4 KB of base64.
        user_data_limit=3072,
        always={"ex_start_vm": True},
        seen_zone="zone_name",
        get_writes=True,
        definite=_JOBS,
    ),
    Driver(
        name="cloudstack",
        title="Apache CloudStack",
        proof=REQUESTS,
        user_data="ex_userdata",
        takes_bytes=True,
        user_data_limit=3072,
        always={"ex_start_vm": True},
        identity=("url", "host"),
        listing=("project",),
        seen_zone="zone_name",
        get_writes=True,
        definite=_JOBS,
    ),
    Driver(
        name="ovh",
        title="OVHcloud",
        proof=REQUESTS,
        identity=("ex_project_id", "region"),
        needs_zone=True,
        seen_zone="region",
    ),
    UpCloud(
        name="upcloud",
        title="UpCloud",
        proof=REQUESTS,
        public_key=True,
        needs_zone=True,
    ),
    Driver(
        name="kamatera",
        title="Kamatera",
        needs_zone=True,
        always={"ex_wait": False},
    ),
    Dummy(
        name="dummy",
        title="Libcloud's own for tests",
        proof="the driver itself",
        public_key=True,
        zone="",
        parallel=1,
        settle=0.0,
        poll=0.1,
        destroys_by_id=False,
    ),
)
