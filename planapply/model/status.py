"""The status of a running cluster at one moment, from its state, the cloud, and the scheduler."""

from collections.abc import Sequence
from typing import Literal

from pydantic import computed_field

from planapply.model.base import Model
from planapply.model.diagnostics import Diagnostic
from planapply.model.end_reason import EndedVM, EndReason
from planapply.model.plan import DriftItem, DriftKind
from planapply.model.state import Resource


class WorkerUsage(Model):
    """The threads, memory, and tasks of Dask workers at their last heartbeats; None if not reported."""

    threads: int | None = None
    memory: int | None = None
    """Bytes of memory of the processes."""
    memory_limit: int | None = None
    """Bytes; 0 for a worker without a limit."""
    tasks: int | None = None
    """The number of tasks that run, or wait on the workers to run."""


class ClusterUsage(Model):
    """The use of a cluster, which terminating its scheduler ends."""

    clients: int = 0
    """Clients of users, without those that Dask itself creates."""
    tasks: int = 0
    """Tasks that have not finished."""
    results: int = 0
    """Bytes of results in the memory of the workers."""


def total_usage(usages: Sequence[WorkerUsage]) -> WorkerUsage:
    """Return the sums; None where no worker has the number."""

    def total(key: str) -> int | None:
        numbers = [n for usage in usages if (n := getattr(usage, key)) is not None]
        return sum(numbers) if numbers else None

    return WorkerUsage(**{key: total(key) for key in WorkerUsage.model_fields})


class NodeStatus(Model):
    """One node that exists, or may exist."""

    name: str
    vm: str | None = None
    status: Literal["running", "pending", "stopping", "stopped", "gone", "requested"]
    """The status of the VM in the cloud. `gone`: the VM is in the state but no longer exists; `requested`: the
    launch request has no recorded result."""
    joined: int | None = None
    """The number of the node's Dask processes that have joined; None if the scheduler did not answer."""
    processes: int = 1
    usage: WorkerUsage | None = None
    """The sums over the node's Dask workers that have joined; None without any."""
    private_address: str | None = None
    public_address: str | None = None
    size: str | None = None
    zone: str | None = None
    spot: bool = False
    age: float | None = None
    """Seconds."""
    ttl_left: float | None = None
    """Seconds until the VM reaches its `ttl`; None without one, and for a VM that does not run."""
    ended: EndReason | None = None
    """Why the VM has ended, if planapply did not terminate it."""


class Status(Model):
    """The result of `planapply status`."""

    cluster: str
    provider: str
    cloud: dict[str, str] = {}
    scheduler_address: str | None = None
    """The address that answered, or else the one for clients; None if there is no scheduler."""
    scheduler_answers: bool = False
    dashboard_url: str | None = None
    time_left: dict[str, float] = {}
    """Seconds until the scheduler stops because of `idle_timeout` or `no_client_timeout`, by key; without
    those that do not run now, since there are tasks or clients."""
    nodes: tuple[NodeStatus, ...] = ()
    drift: tuple[DriftItem, ...] = ()
    problems: tuple[Diagnostic, ...] = ()
    """Errors in the provider's settings that the next launch would meet, such as a deleted subnet; a
    dashboard without plots, whose URL is then None; a group with `adapt` whose load
    nothing follows; and nodes on which `watch` gave up."""
    unknown_workers: tuple[str, ...] = ()
    """Dask workers that have joined but are none of the state's nodes."""
    usd_per_hour: float | None = None
    """The cost of the running VMs whose price is known; None if no price is known."""
    usd_so_far: float | None = None
    """The cost of the cluster since it was created, terminated VMs included; None if no price is known."""
    usd_so_far_at_least: bool = False
    """Whether a part of the cost is unknown: see `Spend.at_least`."""
    usd_so_far_at_most: bool = False
    """Whether VMs that ended by themselves were counted for too long: see `Spend.at_most`."""
    price_source: str = ""
    unknown_prices: tuple[str, ...] = ()
    """Sizes of running VMs whose price is unknown; neither sum includes these VMs."""
    not_counted: tuple[str, ...] = ()
    """Kinds of costs that neither sum includes."""
    resources: dict[str, Resource] = {}
    """Supporting resources, whose `detail` has the ports that they open, and the networks."""
    ended: tuple[EndedVM, ...] = ()
    """The VMs that commands have found ended before, the newest last."""
    lock: str | None = None
    """The current holder of the state's lock."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def unknown_vms(self) -> tuple[str, ...]:
        """Return the VMs with this cluster's tags that were not in the state."""
        unknown = (DriftKind.ADOPTED, DriftKind.STRAY, DriftKind.UNKNOWN)
        return tuple(sorted(item.vm for item in self.drift if item.vm and item.kind in unknown))
