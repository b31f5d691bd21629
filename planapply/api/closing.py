"""The log message after closing a cluster: it is still running, and its cost."""

import asyncio
import logging

from planapply.api.context import ClusterContext
from planapply.model.diagnostics import PlanapplyError
from planapply.model.state import State

logger = logging.getLogger("planapply")


async def log_running_cost(context: ClusterContext) -> None:
    """Log that the cluster is still running, and its cost per hour, if it costs money.

    It is a warning if nothing but `destroy` will terminate the cluster. Never raise PlanapplyError: closing
    must not fail because of this.
    """
    if context.prices is None or not context.prices.costs_money:
        return
    try:
        try:
            state = await asyncio.to_thread(context.read)
        except RuntimeError:  # while the process exits, no thread can be started
            state = context.read()
    except PlanapplyError as error:
        logger.debug("cannot read the state of a closed cluster: %s", error)
        return
    if state.nodes:
        logger.log(
            logging.INFO if _terminates_itself(state) else logging.WARNING,
            "cluster %r is still running, cost: %s. To destroy it, run `planapply destroy --state %s`.",
            state.cluster,
            context.running_cost(state.nodes.values()),
            context.workspace.store.location,
        )


def _terminates_itself(state: State) -> bool:
    config = state.configs.get(state.scheduler.config) if state.scheduler else None
    return state.lifetimes.is_limited or (config is not None and config.ttl is not None)
