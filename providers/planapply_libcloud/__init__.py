"""Every cloud that Apache Libcloud drives."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from planapply.model.diagnostics import PlanapplyError
from planapply.provider import Plugin
from planapply_libcloud.drivers import TABLE, driver_of, unknown
from planapply_libcloud.settings import Settings

if TYPE_CHECKING:
    from planapply_libcloud.provider import Libcloud


def _connect(settings: Settings) -> "Libcloud":
    from planapply_libcloud.provider import connect  # imports libcloud

    return connect(settings)


def _starter(settings: Mapping[str, Any]) -> str:
    """The driver's own, or a plain one that says what is to be filled in."""
    name = str(settings.get("driver", "openstack"))
    if wrong := unknown(name):
        raise PlanapplyError(*wrong)
    driver = driver_of(name)
    if driver.starter:  # which may call it by its other name
        return re.sub(r'^driver = "\w+"', f'driver = "{name}"', driver.starter, flags=re.MULTILINE)
    others = ", ".join(other for other in TABLE if other not in ("dummy", driver.name))
    zones = 'zones = ["..."]' if driver.needs_zone else '# zones = ["..."]'
    return f"""\
# Others that planapply knows: {others}.
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
    also_of_nodes=frozenset({"create"}),
    starter=_starter,
)
