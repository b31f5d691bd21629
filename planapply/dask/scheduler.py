"""Client of a cluster's scheduler: who has joined, retiring workers, whether it can be reached."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from planapply.dask.safe_rpc import SchedulerConnection, UndecodableAnswer, open_connection
from planapply.model.diagnostics import PlanapplyError
from planapply.model.lifetimes import Lifetimes, RunningLifetimes
from planapply.model.names import worker_names
from planapply.model.state import TLS, Endpoint
from planapply.model.status import ClusterUsage, WorkerUsage

if TYPE_CHECKING:
    from distributed.security import Security

T = TypeVar("T")

CONNECT_TIMEOUT = 2.0
"""Seconds for one attempt to reach a scheduler."""
BUSY_TIMEOUT = 10.0
"""Seconds for a second attempt: a scheduler may be busy with a large graph."""
PROBE_TIMEOUT = 6.0
"""Seconds for a probe, with all addresses."""
REACHABLE_TIMEOUT = 10.0
"""Seconds that a client waits by default until the scheduler can be reached."""
RETRY_INTERVAL = 0.5
"""Seconds between two attempts while waiting."""
RETIRE_TIMEOUT = 300.0
"""Seconds in which leaving workers must move their data."""
NO_RECIPIENT = "no other worker can take over their results"


_PENDING = ("waiting", "queued", "no-worker", "processing")
"""States of the scheduler's tasks that have not finished."""
_NOT_DUMPED = [
    *("tasks", "workers", "events", "extensions", "memory", "transition_log", "services"),
    *("wants_what", "versions"),  # of a client
    *("all_durations", "dependencies", "last_worker", "prefix", "types"),  # of a group of tasks
]
"""Parts of the scheduler's state that `usage` does not read."""
_FINISHED = frozenset({"memory", "released", "forgotten", "error", "cancelled", "missing"})
"""States of a worker's tasks that wait for nothing."""


@dataclass(frozen=True)
class SchedulerInfo:
    """A scheduler's report about itself."""

    address: str
    """The address at which it was reached."""
    workers: frozenset[str]
    """Names of its Dask workers."""
    dashboard: int | None
    """Port of its dashboard."""
    usage: Mapping[str, WorkerUsage] = field(default_factory=dict)
    """The usage of each Dask worker at its last heartbeat, by name."""

    def has_joined(self, node: str, processes: int) -> bool:
        """Return whether all Dask workers of a node have joined."""
        return self.workers.issuperset(worker_names(node, processes))


class Scheduler:
    """A scheduler that `connect` has reached. Each method raises OSError if the call fails."""

    def __init__(self, connection: SchedulerConnection) -> None:
        self._connection = connection

    @property
    def address(self) -> str:
        """The address at which it was reached."""
        return self._connection.address

    async def info(self) -> SchedulerInfo:
        """Return its workers and its dashboard."""
        identity = await self._connection.call("identity")
        try:
            return _parse_identity(self.address, identity)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UndecodableAnswer("unexpected response to 'identity'") from error

    async def retire_workers(self, names: Iterable[str]) -> frozenset[str]:
        """Move the data of these Dask workers to the others, then close them.

        Return the workers that the scheduler did not retire and still has: no other worker can take
        over their data. A worker that the scheduler does not know has no data.
        """
        requested = (await self.info()).workers.intersection(names)
        if not requested:
            return frozenset()
        answer = await self._connection.call(
            "retire_workers", names=sorted(requested), remove=True, close_workers=True
        )
        try:
            retired = {str(worker["name"]) for worker in answer.values()}
        except (AttributeError, KeyError, TypeError) as error:
            raise UndecodableAnswer("unexpected response to 'retire_workers'") from error
        remaining = requested - retired
        return remaining & (await self.info()).workers if remaining else frozenset()

    async def results_size(self) -> int:
        """Return the size in bytes of all results that its workers hold."""
        sizes = await self._connection.call("nbytes")
        try:
            return sum(_parse_size(size) for size in sizes.values())
        except (AttributeError, TypeError, ValueError) as error:
            raise UndecodableAnswer("unexpected response to 'nbytes'") from error

    async def adaptive_target(self, target_duration: float) -> int:
        """Return how many Dask workers are required to do all tasks in `target_duration` seconds.

        Without any worker, it is the number of threads.
        """
        answer = _count(
            await self._connection.call("adaptive_target", target_duration=target_duration)
        )
        if answer is None:
            raise UndecodableAnswer("unexpected response to 'adaptive_target'")
        return answer

    async def closable_workers(self) -> frozenset[str]:
        """Return the workers that have no task, and whose results have ample room on the others."""
        names = await self._connection.call("workers_to_close", attribute="name")
        if not isinstance(names, list | tuple):
            raise UndecodableAnswer("unexpected response to 'workers_to_close'")
        return frozenset(map(str, names))

    async def usage(self) -> ClusterUsage:
        """Return its clients, the tasks that have not finished, and the size of all results."""
        # The state without what grows with the number of tasks.
        state = await self._connection.call("dump_state", exclude=_NOT_DUMPED)
        try:
            groups = [group["states"] for group in state["task_groups"].values()]
            return ClusterUsage(
                clients=sum(map(_is_user, state["clients"])),
                tasks=sum(_count(group.get(name)) or 0 for group in groups for name in _PENDING),
                results=await self.results_size(),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UndecodableAnswer("unexpected response to 'dump_state'") from error

    async def logs(
        self, workers: Collection[str], lines: int, *, own: bool
    ) -> tuple[list[str] | None, dict[str, list[str]]]:
        """Return the last log lines that it remembers, if `own`, and those of these workers, by name.

        Each is at most `lines` messages, the oldest first. A worker that it does not know is absent.
        """
        identity = await self._connection.call("identity")
        try:
            addresses = {
                address: str(worker["name"])
                for address, worker in identity["workers"].items()
                if str(worker["name"]) in workers
            }
            answers: dict[str, Any] = {}
            if addresses:
                answers = await self._connection.call(
                    "worker_logs", n=lines, workers=list(addresses), nanny=False
                )
            messages = await self._connection.call("logs", n=lines) if own else None
            return (
                None if messages is None else _to_lines(messages),
                {addresses[address]: _to_lines(answer) for address, answer in answers.items()},
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UndecodableAnswer("unexpected response to a request for logs") from error

    async def events(self, topic: str) -> Any:
        """Return the last events of a topic in its event log, as pairs of a time and a message, unchecked.

        Anyone who may send it a task may write such an event.
        """
        return await self._connection.call("events", topic=topic)

    async def lifetimes(self) -> RunningLifetimes | None:
        """Return its lifetimes, and how long it was idle; None if it does not have planapply's plugin."""
        return _parse_lifetimes(await self._connection.call("planapply_lifetimes"))

    async def set_lifetimes(self, lifetimes: Lifetimes) -> RunningLifetimes | None:
        """Change its lifetimes; return them, or None if it does not have planapply's plugin."""
        times = lifetimes.model_dump()
        return _parse_lifetimes(await self._connection.call("planapply_set_lifetimes", **times))

    async def set_cluster_name(self, cluster: str) -> None:
        """Set the cluster's name, which a client that adopts the cluster reads there."""
        await self._connection.call(
            "set_metadata",
            keys=["cluster-manager-info"],
            value={"name": cluster, "type": "planapply.Cluster"},
        )


_OF_DASK = ("Client-worker-", "published-", "queue-", "variable-")


def _is_user(client: str) -> bool:
    """Return whether a client is not one that Dask itself creates, such as for tasks or published data."""
    return client != "fire-and-forget" and not client.startswith(_OF_DASK)


def _to_lines(messages: Any) -> list[str]:
    """Return the lines of an answer: pairs of a level and a text, the newest first."""
    return [line for _, text in reversed(messages) for line in str(text).splitlines()]


def _parse_lifetimes(answer: Any) -> RunningLifetimes | None:
    if answer is None:  # Dask's answer to a call that it does not know
        return None
    try:
        known = {key: answer[key] for key in RunningLifetimes.model_fields}
        return RunningLifetimes.model_validate(known, strict=True)
    except (KeyError, TypeError, ValidationError) as error:
        raise UndecodableAnswer("unexpected response to a request for lifetimes") from error


def _parse_identity(address: str, identity: Any) -> SchedulerInfo:
    dashboard = identity["services"].get("dashboard")
    workers = {str(worker["name"]): worker for worker in identity["workers"].values()}
    return SchedulerInfo(
        address,
        frozenset(workers),
        dashboard if type(dashboard) is int and 0 < dashboard < 2**16 else None,
        {name: _parse_usage(worker) for name, worker in workers.items()},
    )


def _parse_usage(worker: Mapping[str, Any]) -> WorkerUsage:
    """Return what a worker's last heartbeat says; a number that is missing is None."""
    metrics = worker.get("metrics")
    metrics = metrics if isinstance(metrics, dict) else {}
    counts = metrics.get("task_counts")
    tasks = None
    if isinstance(counts, dict):
        tasks = sum(
            _count(n) or 0
            for state, n in counts.items()
            if isinstance(state, str) and state not in _FINISHED
        )
    return WorkerUsage(
        threads=_count(worker.get("nthreads")),
        memory=_count(metrics.get("memory")),
        memory_limit=_count(worker.get("memory_limit")),
        tasks=tasks,
    )


def _count(value: Any) -> int | None:
    """Return a number of things or of bytes; None for anything else, also for True."""
    return value if type(value) is int and 0 <= value < 2**63 else None


def _parse_size(value: Any) -> int:
    """Return a number of bytes, which a `sizeof` of the user's may have made a float."""
    if type(value) not in (int, float) or not 0 <= value < 2**63:
        raise ValueError("not a size")
    return int(value)


@asynccontextmanager
async def connect(
    endpoint: Endpoint, tls: TLS | None, *, retry_slow: bool = False
) -> AsyncIterator[Scheduler]:
    """Connect to the first address that answers, the public one first.

    With `retry_slow`, try again, for longer, the addresses that timed out. Raises OSError, with the
    error of the last address, if no address answers.
    """
    remaining = addresses(endpoint)
    failure, cause = "the scheduler has no address", None
    for seconds in (CONNECT_TIMEOUT, BUSY_TIMEOUT) if retry_slow else (CONNECT_TIMEOUT,):
        timed_out = []
        for address in remaining:
            stack = AsyncExitStack()
            try:
                connection = await stack.enter_async_context(open_connection(address, tls, seconds))
            except Exception as error:  # the peer may be no Dask scheduler at all
                failure, cause = _describe(error), error
                if isinstance(error, TimeoutError):
                    timed_out.append(address)
                continue
            async with stack:
                yield Scheduler(connection)
            return
        remaining = timed_out
    raise OSError(failure) from cause


def addresses(endpoint: Endpoint) -> list[str]:
    """Return the addresses of a scheduler in the order in which to try them."""
    return [address for address in (endpoint.public, endpoint.private) if address]


def _describe(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no response"
    if isinstance(error, OSError) and isinstance(error.errno, int) and error.errno > 0:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__


def ask(endpoint: Endpoint, tls: TLS | None, call: Callable[[Scheduler], Awaitable[T]]) -> T | None:
    """Return the result of a call; None if the scheduler does not answer within a few seconds."""

    async def run() -> T | None:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT), connect(endpoint, tls) as scheduler:
                return await call(scheduler)
        except OSError:  # including TimeoutError
            return None

    return asyncio.run(run())


def probe(endpoint: Endpoint, tls: TLS | None) -> SchedulerInfo | None:
    """Return what the scheduler reports; None if it does not answer within a few seconds."""
    return ask(endpoint, tls, Scheduler.info)


def cluster_usage(endpoint: Endpoint, tls: TLS | None) -> ClusterUsage | None:
    """Return what is in use on the cluster; None if the scheduler does not answer within a few seconds."""
    return ask(endpoint, tls, Scheduler.usage)


def lifetimes(endpoint: Endpoint, tls: TLS | None) -> RunningLifetimes | None:
    """Return the scheduler's lifetimes; None if it has no plugin, or nothing answers in time."""
    return ask(endpoint, tls, Scheduler.lifetimes)


async def wait_until_reachable(
    cluster: str, endpoint: Endpoint, tls: TLS | None, timeout: float
) -> str:
    """Return the first address that answers; a scheduler that is starting is tried repeatedly.

    Raises PlanapplyError after `timeout` seconds.
    """
    failure: OSError | None = None
    try:
        async with asyncio.timeout(timeout):
            while True:
                try:
                    async with connect(endpoint, tls) as scheduler:
                        return scheduler.address
                except OSError as error:
                    failure = error
                await asyncio.sleep(RETRY_INTERVAL)
    except TimeoutError:
        reason = str(failure) if failure else f"no response within {timeout:g} s"
        raise unreachable(cluster, endpoint, reason) from failure


def unreachable(cluster: str, endpoint: Endpoint, reason: str) -> PlanapplyError:
    """Return the error about a scheduler that does not answer a client."""
    return PlanapplyError(
        f"cannot reach the scheduler of cluster {cluster!r} at "
        f"{' or '.join(addresses(endpoint))}: {reason}",
        "Check with `planapply status` that its VM is running. In a cloud, its network must allow "
        "this machine (`allow_from` in the spec).",
    )


def build_security(tls: TLS | None) -> "Security":
    """Return the configuration of Dask clients, schedulers, and workers for a cluster's key pair."""
    from distributed.security import (
        Security,  # here, so that `planapply status` does not import distributed
    )

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
