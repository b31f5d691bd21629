"""Every cloud that Apache Libcloud drives."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from planapply.provider import Plugin
from planapply_libcloud.drivers import ALIASES, TABLE, driver_of
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
    others = ", ".join(sorted({*TABLE, *ALIASES} - {"dummy"}))
    return f"""\
[provider]
driver = "{driver.name}"              # {driver.title}; others: {others}
key = "env:LIBCLOUD_KEY"              # names of environment variables
secret = "env:LIBCLOUD_SECRET"        # if it has a second one
# options = {{ region = "..." }}        # more arguments for the driver
# create = {{ }}                        # more arguments for its create_node

[defaults]
size = "small"                        # the cloud's own names
image = "debian-12"
{'zones = ["..."]' if driver.needs_zone else '# zones = ["..."]'}
"""


PLUGIN = Plugin(
    name="libcloud",
    summary="OpenStack, GCE, DigitalOcean, Azure and whatever else Apache Libcloud drives",
    settings=Settings,
    connect=_connect,
    starter=_starter,
)
