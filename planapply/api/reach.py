"""The address of a scheduler that answers."""

import asyncio

from planapply.dask.scheduler import addresses, scheduler_rpc
from planapply.model.diagnostics import PlanapplyError
from planapply.model.state import TLS, Endpoint

CONNECT_TIMEOUT = 10.0  # seconds that a scheduler may take to answer
RETRY_INTERVAL = 0.5  # seconds between two tries


async def wait_until_reachable(
    cluster: str, endpoint: Endpoint, tls: TLS | None, timeout: float
) -> str:
    """The first address that answers, the public one before the private one.

    It may be starting: it is tried again until `timeout` seconds have passed; then raises
    PlanapplyError.
    """
    last_error: Exception | None = None
    try:
        async with asyncio.timeout(timeout):
            while True:
                try:
                    async with scheduler_rpc(endpoint, tls) as remote:
                        return str(remote.address)
                except OSError as error:
                    last_error = error
                await asyncio.sleep(RETRY_INTERVAL)
    except TimeoutError:
        raise PlanapplyError(
            f"the scheduler of cluster {cluster!r} does not answer at "
            f"{' nor at '.join(addresses(endpoint))}",
            f"{f'{last_error}. ' if last_error else ''}`planapply status` shows whether its VM is there; in a "
            "cloud, its network may not let this machine in (`allow_from` in the spec).",
        ) from last_error
