"""A client of a running cluster."""

import asyncio
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, overload

from distributed import Client

from planapply.api.arguments import to_path
from planapply.api.durations import Duration, to_seconds
from planapply.dask.scheduler import (
    REACHABLE_TIMEOUT,
    addresses,
    build_security,
    unreachable,
    wait_until_reachable,
)
from planapply.model.diagnostics import PlanapplyError
from planapply.model.state import State
from planapply.ops.workspace import Workspace
from planapply.store import open_store


@overload
def connect(
    where: str | Path | None = None,
    *,
    timeout: Duration = REACHABLE_TIMEOUT,
    asynchronous: Literal[False] = False,
    **options: Any,
) -> Client: ...
@overload
def connect(
    where: str | Path | None = None,
    *,
    timeout: Duration = REACHABLE_TIMEOUT,
    asynchronous: Literal[True],
    **options: Any,
) -> "PendingClient": ...
def connect(
    where: str | Path | None = None,
    *,
    timeout: Duration = REACHABLE_TIMEOUT,
    asynchronous: bool = False,
    **options: Any,
) -> "Client | PendingClient":
    """Connect a `distributed.Client` to a running cluster.

    `where` is a spec file, or the path or URL of a state (`s3://bucket/genomics.json`); the default is
    `planapply.toml` in the current folder. The client gets the cluster's TLS key from the state, and
    uses the first of the scheduler's addresses that responds within `timeout`: seconds, or a duration
    such as "10s". `options` are those of the client, which warns if its versions of Python and of Dask
    are not those of the nodes. With `asynchronous=True`, await the result, or use it in `async with`. Raise
    PlanapplyError if there is no state or no scheduler, or if no address responds.
    """
    pending = PendingClient("planapply.toml" if where is None else where, timeout, options)
    if asynchronous:
        return pending
    # In a thread, since a notebook has a running event loop in this one.
    with ThreadPoolExecutor(1) as pool:
        state, address = pool.submit(asyncio.run, pending.find_scheduler()).result()
    return pending.make_client(state, address)


IF_MISSING = "Pass the path of a spec, or the path or URL of a state."


class PendingClient:
    """The result of `connect(asynchronous=True)`: await it, or use it in `async with`."""

    def __init__(self, where: str | Path, timeout: Duration, options: dict[str, Any]) -> None:
        if "security" in options:
            raise TypeError("cannot pass `security`: connect() reads the TLS key from the state")
        self._where, self._options = to_path("where", where), options
        self._timeout = to_seconds(timeout, "timeout")
        self._client: Client | None = None

    def __await__(self) -> Generator[Any, Any, Client]:
        return self._connect().__await__()

    async def __aenter__(self) -> Client:
        self._client = await self._connect()
        return self._client

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            await self._client.close()

    async def _connect(self) -> Client:
        state, address = await self.find_scheduler()
        try:
            client: Client = await self.make_client(state, address, asynchronous=True)
        except OSError as error:
            raise self._unreachable(state, error) from error
        return client

    def make_client(self, state: State, address: str, **extra: Any) -> Client:
        """Return a client of the scheduler at `address`."""
        options = {"timeout": self._timeout, **self._options, **extra}
        try:
            return Client(address, security=build_security(state.tls), **options)
        except OSError as error:
            raise self._unreachable(state, error) from error

    def _unreachable(self, state: State, error: OSError) -> PlanapplyError:
        assert state.endpoint is not None
        return unreachable(state.cluster, state.endpoint, str(error.__cause__ or error))

    async def find_scheduler(self) -> tuple[State, str]:
        """Return the state, and the first address of its scheduler that responds.

        The only address is returned unchecked: the client tries it for as long, and connecting twice
        takes half as long again.
        """
        state = await asyncio.to_thread(read_state, self._where)
        if state.endpoint is None:
            raise PlanapplyError(
                f"cannot connect to cluster {state.cluster!r}: it has no scheduler",
                "Run `planapply apply` to create one.",
            )
        if len(known := addresses(state.endpoint)) == 1:
            return state, known[0]
        return state, await wait_until_reachable(
            state.cluster, state.endpoint, state.tls, self._timeout
        )


def read_state(where: str) -> State:
    """Return the state of a spec file, or the state at a path or URL; raise PlanapplyError."""
    if "://" in where:
        return Workspace(open_store(where)).read()
    return Workspace.from_state(where, if_missing=IF_MISSING).read()
