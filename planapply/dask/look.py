"""One look at a scheduler, for whoever only wants to know."""

import asyncio
from typing import NamedTuple

from planapply.dask.scheduler import joined_names, scheduler_rpc
from planapply.model.state import TLS, Endpoint

LONGEST = 6.0  # seconds


class Seen(NamedTuple):
    """What a scheduler says of itself; nothing where none answers."""

    address: str | None = None
    """The one that answered."""
    workers: set[str] | None = None
    """The names of its Dask workers."""
    dashboard: int | None = None
    """A port."""


def look(endpoint: Endpoint, tls: TLS | None) -> Seen:
    """Ask the scheduler, for at most a few seconds."""
    return asyncio.run(_look(endpoint, tls))


async def _look(endpoint: Endpoint, tls: TLS | None) -> Seen:
    try:
        async with asyncio.timeout(LONGEST), scheduler_rpc(endpoint, tls) as remote:
            found = await remote.identity()
            return Seen(
                str(remote.address), joined_names(found), found["services"].get("dashboard")
            )
    except (OSError, TimeoutError):
        return Seen()
