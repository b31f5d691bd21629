"""Every cloud that Apache Libcloud drives."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from planapply.provider import Plugin
from planapply_libcloud.drivers import TABLE, driver_of
from planapply_libcloud.settings import Settings

if TYPE_CHECKING:
    from planapply_libcloud.provider import Libcloud


def _connect(settings: Settings) -> "Libcloud":
    from planapply_libcloud.provider import connect  # imports libcloud

    return connect(settings)


def _starter(settings: Mapping[str, Any]) -> str:
    """The driver's own, or a plain one that says what is to be filled in."""
    driver = driver_of(str(settings.get("driver", "openstack")))
    if driver.starter:
        return driver.starter
    others = ", ".join(name for name in TABLE if name not in ("dummy", driver.name))
    zones = 'zones = ["..."]' if driver.needs_zone else '# zones = ["..."]'
    return f"""\
# Others that planapply knows: {others}.
[provider]
driver = "{driver.name}"
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
    starter=_starter,
)
