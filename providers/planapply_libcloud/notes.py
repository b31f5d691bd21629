"""Limitations of a driver, shown in the plan before anything is launched."""

from collections.abc import Iterator, Sequence

from planapply.providerkit import Diagnostic, NodeConfig, warning
from planapply_libcloud.client import Client
from planapply_libcloud.drivers import DRIVER_TABLE
from planapply_libcloud.drivers.full import FullDriver


def notes(client: Client, configs: Sequence[NodeConfig]) -> Iterator[Diagnostic]:
    """Yield a warning for each limitation that concerns these configs."""
    driver, cloud = client.driver, client.cloud
    if driver.name not in DRIVER_TABLE:
        yield warning(
            f"planapply does not know Libcloud's driver {driver.name!r}",
            "planapply passes a name, a size, and an image to its create_node; put other required "
            "arguments in `create` under [provider].",
        )
    if not driver.user_data:
        yield warning(
            f"the {cloud} driver does not support user data",
            "The image must start Dask itself, and must know the scheduler's address.",
        )
    if not driver.has_tags:
        yield warning(
            f"the {cloud} driver does not support tags",
            "planapply finds VMs by their names: do not rename them.",
        )
    if not driver.is_deleted_when_off and any(
        c.ttl or c.idle_timeout or c.no_client_timeout for c in configs
    ):
        yield warning(
            f"on {cloud}, a VM that powers off {driver.cost_when_off}",
            "`ttl`, `idle_timeout`, and `no_client_timeout` only power VMs off. Run `planapply destroy` to delete them.",
        )
    if client.settings.allow_from and not isinstance(driver, FullDriver):
        yield warning(
            f"`allow_from` has no effect with the driver {driver.name!r}",
            "Open the ports of the scheduler and the dashboard in the cloud's own console.",
        )
