"""The clusters of an account, as the tags of their VMs show them."""

from planapply.model.base import Model


class ListedCluster(Model):
    """One cluster, from the tags of its VMs."""

    cluster: str
    lineage: str
    nodes: int
    """The number of VMs that run or are about to."""
    stopping: int = 0
    """The number of VMs that are shutting down."""
    age: float | None = None
    """Seconds since the launch of the oldest of these VMs."""
    usd_per_hour: float | None = None
    """The cost of the VMs whose price is known; None if no price is known."""
    unpriced: int = 0
    """The number of VMs whose price is unknown, if the provider has prices."""
    state: str | None = None
    """The location of the state; None if it is none of the states that were read."""


class Listing(Model):
    """The result of `planapply list`."""

    provider: str
    cloud: dict[str, str] = {}
    clusters: tuple[ListedCluster, ...] = ()
    looked_at: tuple[str, ...] = ()
    """The locations of the states that were read."""
    price_source: str = ""
