"""Every cloud that Apache Libcloud drives."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from planapply.model.diagnostics import PlanapplyError
from planapply.provider import Plugin
from planapply_libcloud.drivers import DRIVER_TABLE, explain_unknown, find_driver
from planapply_libcloud.settings import Settings

if TYPE_CHECKING:
    from planapply_libcloud.provider import Libcloud


def _connect(settings: Settings) -> "Libcloud":
    from planapply_libcloud.provider import connect  # imports libcloud

    return connect(settings)


def _starter(settings: Mapping[str, Any]) -> str:
    """The driver's own, or a plain one that says what is to be filled in."""
    name = str(settings.get("driver", "openstack"))
    if problem := explain_unknown(name):
        raise PlanapplyError(*problem)
    driver = find_driver(name)
    if driver.starter:  # which may call it by its other name
        return re.sub(r'^driver = "\w+"', f'driver = "{name}"', driver.starter, flags=re.MULTILINE)
    known_drivers = ", ".join(
        known_name for known_name in DRIVER_TABLE if known_name not in ("dummy", driver.name)
    )
    zones = 'zones = ["..."]' if driver.needs_zone else '# zones = ["..."]'
    return f"""\
# Others that planapply knows: {known_drivers}.
[provider]
driver = "{name}"
key = "env:LIBCLOUD_KEY"              # names of environment variables
# secret = "env:LIBCLOUD_SECRET"      # where there is a second one
# options = {{ region = "..." }}        # more arguments for Libcloud's driver
# create = {{ }}                        # more arguments for its create_node

[defaults]
size = "..."                          # the cloud's own names
image = "..."
{zones}
"""


PLUGIN = Plugin(
    name="libcloud",
    summary="OpenStack, GCE, DigitalOcean, Azure and whatever else Apache Libcloud drives",
    settings=Settings,
    connect=_connect,
    node_settings=frozenset({"create"}),
    starter=_starter,
)
