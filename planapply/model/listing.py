"""Every cluster that an account's tags show."""

from planapply.model.base import Model


class ListedCluster(Model):
    """One cluster, as its VMs tell of it."""

    cluster: str
    lineage: str
    nodes: int
    """VMs that run or will."""
    stopping: int = 0
    """VMs that are on their way to their end."""
    age: float | None = None
    """Seconds since the oldest of these VMs was launched."""
    usd_per_hour: float | None = None
    """Of the VMs whose price is known; None where none is."""
    unpriced: int = 0
    """VMs whose price is not known, where the provider knows any."""
    state: str | None = None
    """Where its state is, if it is one of those that were looked at; else it is elsewhere or lost,
    which can't be told apart from here."""


class Listing(Model):
    """What `planapply list` tells."""

    provider: str
    cloud: dict[str, str] = {}
    clusters: tuple[ListedCluster, ...] = ()
    looked_at: tuple[str, ...] = ()
    """The states that were read."""
    price_source: str = ""
