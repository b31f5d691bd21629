"""What this driver can't do, said in the plan before anything is launched."""

from collections.abc import Iterator, Sequence

from planapply.model.diagnostics import Diagnostic, warning
from planapply.model.node import NodeConfig
from planapply_libcloud.client import Client
from planapply_libcloud.drivers import DRIVER_TABLE
from planapply_libcloud.drivers.full import FullDriver


def notes(client: Client, configs: Sequence[NodeConfig]) -> Iterator[Diagnostic]:
    """Warnings, none of which stops anything."""
    driver, cloud = client.driver, client.cloud
    if driver.name not in DRIVER_TABLE:
        yield warning(
            f"planapply does not know Libcloud's driver {driver.name!r}",
            "It gets a name, a size and an image; what else its create_node needs has to stand in "
            "`create` under [provider].",
        )
    if not driver.user_data:
        yield warning(
            f"{cloud}'s driver passes no script to its VMs",
            "Their image has to start Dask by itself, and to know the scheduler's address.",
        )
    if not driver.has_tags:
        yield warning(
            f"{cloud}'s driver puts no tags on VMs",
            "They are found by their names: don't rename them.",
        )
    if not driver.is_deleted_when_off and any(c.ttl or c.idle_timeout for c in configs):
        yield warning(
            f"on {cloud}, a VM that switches itself off {driver.cost_when_off}",
            "That is what `ttl` and `idle_timeout` make it do; `planapply destroy` removes it.",
        )
    if client.settings.allow_from and not isinstance(driver, FullDriver):
        yield warning(
            f"`allow_from` means nothing with the driver {driver.name!r}",
            "Open the scheduler's port and the dashboard's in the cloud's own console.",
        )
