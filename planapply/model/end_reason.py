"""Why VMs that planapply did not terminate have ended."""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from planapply.model.base import Record
from planapply.model.state_fields import NodeName, NonEmptyText, Timestamp

MAX_ENDED = 100
"""How many VMs a state records with the reason why they have ended."""


class EndReason(StrEnum):
    """Why a VM has ended that planapply did not terminate."""

    IDLE = "idle"
    """The scheduler was idle for `idle_timeout`."""
    NO_CLIENT = "no_client"
    """The scheduler had no client for `no_client_timeout`."""
    TTL = "ttl"
    """The VM has reached its `ttl`."""
    SHUTDOWN = "shutdown"
    """The scheduler was shut down, as `Client.shutdown()` does."""
    SCHEDULER_GONE = "scheduler_gone"
    """The worker could no longer reach its scheduler."""
    RECLAIMED = "reclaimed"
    """The cloud took the VM back, such as a spot VM."""
    FAILED = "failed"
    """The VM could not start, or its Dask process crashed."""
    TERMINATED = "terminated"
    """Another user or program terminated the VM."""
    POWERED_OFF = "powered_off"
    """The VM was shut down from inside, for none of these reasons as far as is known."""
    UNKNOWN = "unknown"


class EndedVM(Record):
    """A VM that was found ended; recorded because a cloud soon forgets it."""

    name: NodeName
    vm: NonEmptyText
    reason: EndReason
    found_at: Timestamp
    """When a command first recorded it."""


def add_ended(
    ended: Sequence[EndedVM],
    vms: Iterable[tuple[str, str]],
    reasons: Mapping[str, EndReason],
    now: float,
) -> list[EndedVM]:
    """Return the record with more VMs, the newest last, without the oldest ones.

    `vms` are pairs of a node and its VM, `reasons` are by node. A reason that is known stays; `now` is in
    seconds since the epoch.
    """
    known = {old.vm: old for old in ended}
    for name, vm in vms:
        old = known.get(vm)
        if old is None or old.reason is EndReason.UNKNOWN:
            found_at = now if old is None else old.found_at
            known[vm] = EndedVM(name=name, vm=vm, reason=reasons[name], found_at=found_at)
    return [*known.values()][-MAX_ENDED:]
