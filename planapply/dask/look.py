"""One look at a scheduler, for whoever only wants to know."""

import asyncio
from typing import NamedTuple

from planapply.dask.scheduler import joined_names, scheduler_rpc
from planapply.model.state import TLS, Endpoint

PROBE_TIMEOUT = 6.0  # seconds


class ProbeResult(NamedTuple):
    """What a scheduler says of itself; nothing where none answers."""

    address: str | None = None
    """The one that answered."""
    workers: set[str] | None = None
    """The names of its Dask workers."""
    dashboard: int | None = None
    """A port."""


def probe(endpoint: Endpoint, tls: TLS | None) -> ProbeResult:
    """Ask the scheduler, for at most a few seconds."""
    return asyncio.run(_probe(endpoint, tls))


async def _probe(endpoint: Endpoint, tls: TLS | None) -> ProbeResult:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT), scheduler_rpc(endpoint, tls) as remote:
            found = await remote.identity()
            return ProbeResult(
                str(remote.address), joined_names(found), found["services"].get("dashboard")
            )
    except (OSError, TimeoutError):
        return ProbeResult()
