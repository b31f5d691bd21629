"""What closing a cluster says: it still runs, and what that costs."""

import asyncio
import logging
from contextlib import suppress

from planapply.fleet import PriceList, ProviderFailed
from planapply.model.diagnostics import PlanapplyError
from planapply.model.state import State
from planapply.ops.workspace import Workspace
from planapply.render.values import format_usd

logger = logging.getLogger("planapply")


async def log_running_cost(workspace: Workspace) -> None:
    """Log that the cluster still runs, and its cost per hour, if it costs money.

    It is a warning if nothing but `destroy` will terminate the cluster. Never raise: closing must not fail
    because of this.
    """
    try:
        await asyncio.to_thread(_log_running_cost, workspace)
    except RuntimeError:  # while the process exits, no thread can be started
        with suppress(RuntimeError):
            _log_running_cost(workspace)


def _log_running_cost(workspace: Workspace) -> None:
    try:
        state = workspace.store.read()
        if state is None or not state.nodes:
            return
        client = workspace.connect(state)
        if not client.costs_money:
            return
        prices = PriceList(client)
        items = [(record.size, record.zone, record.spot) for record in state.nodes.values()]
        cost = format_usd(prices.total(items), prices.unpriced_sizes(items))
    except (PlanapplyError, ProviderFailed) as error:
        logger.debug("cannot compute the cost: %s", error)
        return
    ends = _ends_by_itself(state)
    logger.log(
        logging.INFO if ends else logging.WARNING,
        "cluster %r is still running, %s. To destroy it, run `planapply destroy --state %s`.",
        state.cluster,
        cost if cost != "unknown" else "at an unknown cost",
        workspace.store.location,
    )


def _ends_by_itself(state: State) -> bool:
    config = state.configs.get(state.scheduler.config) if state.scheduler else None
    return config is not None and bool(config.idle_timeout or config.ttl)
