"""Short delays for a cloud that shows its VMs at once; every command of its environment imports this."""

from dataclasses import replace

from planapply_libcloud.drivers import DRIVER_TABLE

DRIVER_TABLE["ec2"] = replace(DRIVER_TABLE["ec2"], consistency_delay=1.0, poll=0.1)
