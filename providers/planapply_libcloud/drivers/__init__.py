"""The table of drivers. What is not in it has what every driver of Libcloud has."""

from difflib import get_close_matches

from planapply_libcloud.drivers.azure import AZURE
from planapply_libcloud.drivers.base import Driver
from planapply_libcloud.drivers.ec2 import EC2_DRIVER
from planapply_libcloud.drivers.gce import GCE_DRIVER
from planapply_libcloud.drivers.openstack import OPENSTACK
from planapply_libcloud.drivers.others import OTHERS

TABLE: dict[str, Driver] = {
    driver.name: driver for driver in (OPENSTACK, GCE_DRIVER, AZURE, EC2_DRIVER, *OTHERS)
}
ALIASES = {"azure": "azure_arm"}
"""Libcloud's own `azure` is the classic API, which Azure has ended."""


def driver_of(name: str) -> Driver:
    """The entry, or a plain one for a driver that has none."""
    name = ALIASES.get(name, name)
    return TABLE.get(name) or Driver(name=name, title=name, destroys_by_id=False)


def unknown(name: str) -> tuple[str, str] | None:
    """What is wrong with a name that Libcloud has no driver of, and what to do; else None."""
    if name in TABLE or name in ALIASES:
        return None
    from libcloud.compute.providers import DRIVERS  # takes a tenth of a second

    names = {*map(str, DRIVERS), *ALIASES}
    if name in names:
        return None
    small = name.lower()
    near = [small] if small in names else get_close_matches(small, names, 3)
    return (
        f"Libcloud has no driver {name!r}",
        f"Did you mean {', '.join(near)}?"
        if near
        else f"planapply knows {', '.join(TABLE)}; Libcloud's pages list those that it does not.",
    )
