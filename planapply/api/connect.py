"""A client of a cluster that runs."""

import asyncio
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, overload

from distributed import Client

from planapply.api.reach import ANSWER, answering
from planapply.dask.scheduler import security_of
from planapply.model.diagnostics import PlanapplyError
from planapply.model.state import State
from planapply.ops.workspace import Workspace
from planapply.store import open_store


@overload
def connect(
    where: str | Path | None = None,
    *,
    timeout: float = ANSWER,
    asynchronous: Literal[False] = False,
    **options: Any,
) -> Client: ...
@overload
def connect(
    where: str | Path | None = None,
    *,
    timeout: float = ANSWER,
    asynchronous: Literal[True],
    **options: Any,
) -> "Connecting": ...
def connect(
    where: str | Path | None = None,
    *,
    timeout: float = ANSWER,
    asynchronous: bool = False,
    **options: Any,
) -> "Client | Connecting":
    """A `distributed.Client` of a cluster, with its TLS key, at that address which answers.

    `where` is a spec, a state's path or its address (`s3://bucket/genomics.json`); default:
    `planapply.toml` here. `timeout` in seconds is how long the scheduler may take to answer; `options`
    are the client's. With `asynchronous=True`, await it, or use it in `async with`. Raises
    PlanapplyError where there is no state, no scheduler, or no answer.
    """
    connecting = Connecting(where or "planapply.toml", timeout, options)
    if asynchronous:
        return connecting
    # In a thread, for a notebook has a loop running in this one.
    with ThreadPoolExecutor(1) as pool:
        state, address = pool.submit(asyncio.run, connecting.find()).result()
    return connecting.client(state, address)


class Connecting:
    """What `connect(asynchronous=True)` gives: await it, or use it in `async with`."""

    def __init__(self, where: str | Path, timeout: float, options: dict[str, Any]) -> None:
        if "security" in options:
            raise TypeError("connect() takes no `security`: the state has the cluster's own")
        self._where, self._timeout, self._options = str(where), timeout, options
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
        client: Client = await self.client(*await self.find(), asynchronous=True)
        return client

    def client(self, state: State, address: str, **more: Any) -> Client:
        """A client of the scheduler at `address`."""
        options = {"timeout": self._timeout, **self._options, **more}
        try:
            return Client(address, security=security_of(state.tls), **options)
        except OSError as error:  # it answered a moment ago
            raise PlanapplyError(f"the scheduler at {address} does not answer: {error}") from error

    async def find(self) -> tuple[State, str]:
        """The state, and the address of its scheduler that answers."""
        state = await asyncio.to_thread(self._read)
        if state.endpoint is None:
            raise PlanapplyError(
                f"cluster {state.cluster!r} has no scheduler", "`planapply apply` makes one."
            )
        return state, await answering(state.cluster, state.endpoint, state.tls, self._timeout)

    def _read(self) -> State:
        if "://" in self._where:
            return Workspace(open_store(self._where)).read()
        return Workspace.from_state(self._where).read()
