"""Talking to the scheduler: who has joined, who shall leave."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from typing import Any

from distributed.core import rpc
from distributed.security import Security

from planapply.model.names import worker_names
from planapply.model.state import TLS, Endpoint

CONNECT_TIMEOUT = 2.0
"""Seconds for one try to reach a scheduler."""
BUSY_TIMEOUT = 10.0
"""Seconds for another, where data would be lost without it: a scheduler may hang in a large graph."""


def build_security(tls: TLS | None) -> Security:
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
    endpoint: Endpoint, tls: TLS | None, *, retry_slow: bool = False
) -> AsyncIterator[Any]:
    """An rpc to the first address that answers; raises OSError when none does.

    With `retry_slow` those that are slow to are tried again, for longer, when none has.
    """
    last_error: Exception = OSError("the scheduler has no address")
    arguments = build_security(tls).get_connection_args("client")
    remaining = addresses(endpoint)
    for seconds in (CONNECT_TIMEOUT, BUSY_TIMEOUT) if retry_slow else (CONNECT_TIMEOUT,):
        timed_out = []
        for address in remaining:
            remote = rpc(address, timeout=seconds, connection_args=arguments)
            try:
                # Once connected, distributed waits for a handshake for ever.
                async with asyncio.timeout(seconds + 1.0):
                    await remote.live_comm()
            except Exception as error:  # whatever answers there may be no Dask scheduler at all
                last_error = error
                if TimeoutError in (type(error), type(error.__cause__)):
                    timed_out.append(address)
                await remote.close_rpc()
                continue
            try:
                yield remote
            finally:
                await remote.close_rpc()
            return
        remaining = timed_out
    raise OSError(str(last_error) or "it does not answer") from last_error


def joined_names(identity: dict[str, Any]) -> set[str]:
    """The Dask worker names that the scheduler knows."""
    return {str(worker["name"]) for worker in identity["workers"].values()}


def has_joined(name: str, processes: int, present: Collection[str]) -> bool:
    """Whether all Dask workers of a node are there."""
    return all(worker in present for worker in worker_names(name, processes))


async def retire_workers(remote: Any, names: Iterable[str]) -> None:
    """Let these Dask workers hand their data to the others and leave.

    By name: SpecCluster passes names as addresses, which retires nobody (facts of distributed
    2026.8).
    """
    await remote.retire_workers(names=list(names), remove=True, close_workers=True)


async def set_cluster_name(remote: Any, cluster: str) -> None:
    """Tell the scheduler its cluster's name, which whoever adopts it reads there."""
    await remote.set_metadata(
        keys=["cluster-manager-info"], value={"name": cluster, "type": "planapply.Cluster"}
    )
