"""One look at a scheduler, for whoever only wants to know."""

import asyncio

from planapply.cluster.attach import joined_names, scheduler_rpc
from planapply.model.state import TLS, Endpoint

LONGEST = 6.0  # seconds


def look(endpoint: Endpoint, tls: TLS | None) -> tuple[str | None, set[str] | None]:
    """The address that answers and the names of its Dask workers; None twice where none does."""
    return asyncio.run(_look(endpoint, tls))


async def _look(endpoint: Endpoint, tls: TLS | None) -> tuple[str | None, set[str] | None]:
    try:
        async with asyncio.timeout(LONGEST), scheduler_rpc(endpoint, tls) as remote:
            return str(remote.address), joined_names(await remote.identity())
    except (OSError, TimeoutError):
        return None, None
