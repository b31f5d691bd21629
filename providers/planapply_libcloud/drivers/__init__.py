"""The table of drivers. What is not in it has what every driver of Libcloud has."""

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
