"""Provider for the clouds that Apache Libcloud supports."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from planapply.provider import Plugin
from planapply.providerkit import PlanapplyError
from planapply_libcloud.drivers import DRIVER_TABLE, explain_unknown, find_driver
from planapply_libcloud.settings import Settings

if TYPE_CHECKING:
    from planapply_libcloud.provider import Libcloud


def _connect(settings: Settings) -> "Libcloud":
    from planapply_libcloud.provider import connect  # imports libcloud

    return connect(settings)


def _starter(settings: Mapping[str, Any]) -> str:
    """Return the driver's own starter, or a general one to fill in."""
    name = str(settings.get("driver", "openstack"))
    if problem := explain_unknown(name):
        raise PlanapplyError(*problem)
    driver = find_driver(name)
    if driver.starter:  # it may have the driver's other name
        return re.sub(r'^driver = "\w+"', f'driver = "{name}"', driver.starter, flags=re.MULTILINE)
    known_drivers = ", ".join(
        known_name for known_name in DRIVER_TABLE if known_name not in ("dummy", driver.name)
    )
    zones = 'zones = ["..."]' if driver.needs_zone else '# zones = ["..."]'
    return f"""\
# Other drivers that planapply knows: {known_drivers}.
[provider]
driver = "{name}"
key = "env:LIBCLOUD_KEY"              # name of an environment variable
# secret = "env:LIBCLOUD_SECRET"      # if the cloud needs a second one
# options = {{ region = "..." }}        # more arguments of Libcloud's driver
# create = {{ }}                        # more arguments of its create_node

[defaults]
size = "..."                          # the cloud's own names
image = "..."
{zones}
"""


PLUGIN = Plugin(
    name="libcloud",
    summary="OpenStack, GCE, DigitalOcean, Azure, and other clouds that Apache Libcloud supports",
    settings=Settings,
    connect=_connect,
    node_settings=frozenset({"create"}),
    starter=_starter,
)
