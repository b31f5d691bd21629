"""Table of drivers; any other driver has what all of Libcloud's drivers have."""

from planapply.providerkit import suggest
from planapply_libcloud.drivers.azure import AZURE
from planapply_libcloud.drivers.base import Driver
from planapply_libcloud.drivers.ec2 import EC2_DRIVER
from planapply_libcloud.drivers.gce import GCE_DRIVER
from planapply_libcloud.drivers.openstack import OPENSTACK
from planapply_libcloud.drivers.simple import SIMPLE_DRIVERS

DRIVER_TABLE: dict[str, Driver] = {
    driver.name: driver for driver in (OPENSTACK, GCE_DRIVER, AZURE, EC2_DRIVER, *SIMPLE_DRIVERS)
}
ALIASES = {"azure": "azure_arm"}
"""Other names; Libcloud's own `azure` is the classic API, which Azure has shut down."""


def find_driver(name: str) -> Driver:
    """Return the driver's entry, or a general one for a driver without an entry."""
    name = ALIASES.get(name, name)
    return DRIVER_TABLE.get(name) or Driver(name=name, title=name, is_destroyed_by_id=False)


def explain_unknown(name: str) -> tuple[str, str] | None:
    """Return what is wrong and what to do if Libcloud has no driver of that name; else None."""
    if name in DRIVER_TABLE or name in ALIASES:
        return None
    from libcloud.compute.providers import DRIVERS  # takes a tenth of a second

    names = {*map(str, DRIVERS), *ALIASES}
    if name in names:
        return None
    known = f"planapply knows {', '.join(DRIVER_TABLE)}; Libcloud's documentation lists all others."
    return (f"Libcloud has no driver {name!r}", suggest(name, names, known))
