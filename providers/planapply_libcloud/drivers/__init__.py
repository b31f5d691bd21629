"""The table of drivers. What is not in it has what every driver of Libcloud has."""

from difflib import get_close_matches

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
"""Libcloud's own `azure` is the classic API, which Azure has ended."""


def find_driver(name: str) -> Driver:
    """The entry, or a plain one for a driver that has none."""
    name = ALIASES.get(name, name)
    return DRIVER_TABLE.get(name) or Driver(name=name, title=name, is_destroyed_by_id=False)


def explain_unknown(name: str) -> tuple[str, str] | None:
    """What is wrong with a name that Libcloud has no driver of, and what to do; else None."""
    if name in DRIVER_TABLE or name in ALIASES:
        return None
    from libcloud.compute.providers import DRIVERS  # takes a tenth of a second

    names = {*map(str, DRIVERS), *ALIASES}
    if name in names:
        return None
    lower_name = name.lower()
    matches = [lower_name] if lower_name in names else get_close_matches(lower_name, names, 3)
    return (
        f"Libcloud has no driver {name!r}",
        f"Did you mean {', '.join(matches)}?"
        if matches
        else f"planapply knows {', '.join(DRIVER_TABLE)}; Libcloud's pages list those that it does not.",
    )
