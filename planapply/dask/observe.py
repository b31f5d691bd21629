"""The report of a scheduler for a round of `watch`, in one connection."""

from collections.abc import Mapping
from dataclasses import dataclass

from planapply.dask.notices import read_notices
from planapply.dask.scheduler import Scheduler, SchedulerInfo, ask
from planapply.model.notice import Notice
from planapply.model.state import TLS, Endpoint


@dataclass(frozen=True)
class SchedulerReport:
    """The Dask workers of a scheduler, if they were requested, and the notices about spot VMs."""

    info: SchedulerInfo | None
    notices: Mapping[str, Notice]


def observe_scheduler(
    endpoint: Endpoint, tls: TLS | None, spot_vms: Mapping[str, str], now: float, *, workers: bool
) -> SchedulerReport | None:
    """Return the scheduler's report; None if it does not answer within a few seconds.

    `spot_vms` are the IDs of the spot VMs by node, `now` is in seconds since the epoch. `workers` is whether
    to ask for the Dask workers.
    """

    async def observe(scheduler: Scheduler) -> SchedulerReport:
        notices = await read_notices(scheduler, spot_vms, now) if spot_vms else {}
        return SchedulerReport(await scheduler.info() if workers else None, notices)

    return ask(endpoint, tls, observe)
