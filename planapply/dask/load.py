"""The load of a running cluster, from its scheduler."""

from planapply.dask.scheduler import Scheduler, ask
from planapply.diff.load import Load
from planapply.model.state import TLS, Endpoint


def observe_load(endpoint: Endpoint, tls: TLS | None, target: float) -> Load | None:
    """Return the load of a cluster; None if the scheduler does not answer within a few seconds.

    `target` is the number of seconds in which the scheduler's tasks should be done.
    """

    async def observe(scheduler: Scheduler) -> Load:
        # The workers last: one that joins in between is busy at worst, and is not counted as closable.
        closable = await scheduler.closable_workers()
        required = await scheduler.adaptive_target(target)
        workers = (await scheduler.info()).workers
        return Load(required, workers, closable & workers)

    return ask(endpoint, tls, observe)
