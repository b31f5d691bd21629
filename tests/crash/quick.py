"""Imported by each command of a ground whose cloud shows at once what it has: saves the waiting for it."""

from dataclasses import replace

from planapply_libcloud.drivers import DRIVER_TABLE

DRIVER_TABLE["ec2"] = replace(DRIVER_TABLE["ec2"], consistency_delay=1.0, poll=0.1)
