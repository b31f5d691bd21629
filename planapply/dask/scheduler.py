"""Talking to the scheduler: who has joined, who shall leave."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from typing import Any

from distributed.core import rpc
from distributed.security import Security

from planapply.model.names import worker_names
from planapply.model.state import TLS, Endpoint

CONNECT = 2.0
"""Seconds for one try to reach a scheduler."""
BUSY = 10.0
"""Seconds for another, where data would be lost without it: a scheduler may hang in a large graph."""


def security_of(tls: TLS | None) -> Security:
    """The client's, scheduler's and workers' side of this cluster's key pair."""
    if tls is None:
        return Security()
    pair = {"cert": tls.certificate, "key": tls.key.get_secret_value()}
    return Security(
        require_encryption=True,
        tls_ca_file=tls.certificate,
        **{
            f"tls_{role}_{part}": text
            for role in ("client", "scheduler", "worker")
            for part, text in pair.items()
        },
    )


def addresses(endpoint: Endpoint) -> list[str]:
    """Where to try to reach the scheduler, the public address first."""
    return [address for address in (endpoint.public, endpoint.private) if address]


@asynccontextmanager
async def scheduler_rpc(
    endpoint: Endpoint, tls: TLS | None, *, busy: bool = False
) -> AsyncIterator[Any]:
    """An rpc to the first address that answers; raises OSError when none does.

    With `busy` those that are slow to are tried again, for longer, when none has.
    """
    last: Exception = OSError("the scheduler has no address")
    arguments = security_of(tls).get_connection_args("client")
    left = addresses(endpoint)
    for seconds in (CONNECT, BUSY) if busy else (CONNECT,):
        slow = []
        for address in left:
            remote = rpc(address, timeout=seconds, connection_args=arguments)
            try:
                # Once connected, distributed waits for a handshake for ever.
                async with asyncio.timeout(seconds + 1.0):
                    await remote.live_comm()
            except Exception as error:  # whatever answers there may be no Dask scheduler at all
                last = error
                if TimeoutError in (type(error), type(error.__cause__)):
                    slow.append(address)
                await remote.close_rpc()
                continue
            try:
                yield remote
            finally:
                await remote.close_rpc()
            return
        left = slow
    raise OSError(str(last) or "it does not answer") from last


def joined_names(identity: dict[str, Any]) -> set[str]:
    """The Dask worker names that the scheduler knows."""
    return {str(worker["name"]) for worker in identity["workers"].values()}


def has_joined(name: str, processes: int, present: Collection[str]) -> bool:
    """Whether all Dask workers of a node are there."""
    return all(worker in present for worker in worker_names(name, processes))


async def retire(remote: Any, names: Iterable[str]) -> None:
    """Let these Dask workers hand their data to the others and leave.

    By name: SpecCluster passes names as addresses, which retires nobody (facts of distributed
    2026.8).
    """
    await remote.retire_workers(names=list(names), remove=True, close_workers=True)


async def introduce(remote: Any, cluster: str) -> None:
    """Tell the scheduler its cluster's name, which whoever adopts it reads there."""
    await remote.set_metadata(
        keys=["cluster-manager-info"], value={"name": cluster, "type": "planapply.Cluster"}
    )
