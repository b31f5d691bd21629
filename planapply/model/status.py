"""What is known of a running cluster at one moment: state, cloud and scheduler asked together."""

from typing import Literal

from planapply.model.base import Model


class NodeStatus(Model):
    """One node, or one that should be there."""

    name: str
    vm: str | None = None
    status: Literal["running", "pending", "stopping", "stopped", "gone", "requested"]
    """As the cloud shows its VM: `gone` is in the state and shown no more, `requested` was asked
    for without an answer that was recorded."""
    joined: int | None = None
    """How many of its Dask processes the scheduler knows; None where it could not be asked."""
    processes: int = 1
    private_address: str | None = None
    public_address: str | None = None
    size: str | None = None
    zone: str | None = None
    spot: bool = False
    age: float | None = None
    """Seconds."""


class Status(Model):
    """What `planapply status` tells."""

    cluster: str
    provider: str
    cloud: dict[str, str] = {}
    scheduler_address: str | None = None
    """The one that answered, or else the one that clients use; None before there is a scheduler."""
    scheduler_answers: bool = False
    dashboard_url: str | None = None
    nodes: tuple[NodeStatus, ...] = ()
    unknown_workers: tuple[str, ...] = ()
    """Dask workers that have joined and are none of this state's nodes."""
    unknown_vms: tuple[str, ...] = ()
    """VMs with this cluster's tags that the state does not know; the next apply settles them."""
    usd_per_hour: float | None = None
    """Of the VMs that run, as far as prices are known; None where none is."""
    usd_so_far: float | None = None
    """What these VMs have cost since they were launched; those that have ended are not in it."""
    price_source: str = ""
    unknown_prices: tuple[str, ...] = ()
    """Sizes of VMs that run and have no known price: they are in neither sum."""
    lock: str | None = None
    """Who holds the state's lock now."""

    @property
    def drift(self) -> tuple[str, ...]:
        """Nodes that are not as the state says."""
        drifted = ("gone", "stopping", "stopped")
        return tuple(node.name for node in self.nodes if node.status in drifted)
