"""distributed.SpecCluster without its traps.

It overrides private methods. The reason for each override was measured with distributed 2026.8; the
tests run on the oldest and the newest version of the range in pyproject.toml.
"""

import asyncio
import contextlib
import logging
import shlex
import weakref
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

import dask
from dask.utils import parse_timedelta
from distributed.core import Status
from distributed.deploy.cluster import Cluster as DaskCluster
from distributed.deploy.spec import SpecCluster
from distributed.objects import SchedulerInfo
from distributed.security import Security
from distributed.utils import import_term
from tornado.ioloop import IOLoop

from planapply.dask.handles import VMProcess
from planapply.dask.scheduler import NO_RECIPIENT, RETIRE_TIMEOUT
from planapply.model.diagnostics import PlanapplyError

logger = logging.getLogger("planapply")

# The identity of a large cluster is large: it is read this many times less often than the cluster's
# name is written.
POLL_FACTOR = 5


class RobustSpecCluster(SpecCluster):
    """A SpecCluster that retires workers, keeps what works if something fails, and always closes.

    `failures` has, by name, the errors of the nodes that could not be started or closed by the last
    change. They do not affect other nodes.
    """

    failures: dict[Any, BaseException]

    scheduler: Any
    scheduler_comm: Any
    loop: Any

    def __init__(
        self,
        workers: dict[Any, Any] | None = None,
        scheduler: dict[str, Any] | None = None,
        worker: dict[str, Any] | None = None,
        asynchronous: bool = False,
        loop: IOLoop | None = None,
        security: Security | None = None,
        silence_logs: Any = False,
        name: str | None = None,
        shutdown_on_close: bool = True,
        scheduler_sync_interval: Any = 1,
        shutdown_scheduler: bool = True,
    ) -> None:
        # First, since a synchronous constructor starts the cluster within super().__init__.
        self.failures = {}
        self._dask_names: dict[Any, list[Any]] = {}
        self._nodes: dict[str, Any] = {}  # by Dask name, as text
        self._timers: set[asyncio.TimerHandle] = set()
        self._poll_task: asyncio.Task[None] | None = None
        self._is_polling = False
        try:
            super().__init__(
                workers=workers,
                scheduler=scheduler,
                worker=worker,
                asynchronous=asynchronous,
                loop=loop,
                security=security,
                silence_logs=silence_logs,
                name=name,
                shutdown_on_close=shutdown_on_close,
                scheduler_sync_interval=scheduler_sync_interval,
                shutdown_scheduler=shutdown_scheduler,
            )
        except BaseException:
            # SpecCluster leaves its "IO loop" thread running.
            runner = getattr(self, "_loop_runner", None)
            if runner is not None:
                runner.stop()
            raise

    async def _start(self) -> None:
        await super()._start()
        if not self._is_polling and self.status == Status.running:
            self._is_polling = True
            self._poll_task = asyncio.ensure_future(self._poll_scheduler())

    # From `worker_spec` to `workers`.

    def _correct_state(self) -> Any:
        # SpecCluster starts no new correction after one that was canceled before it began.
        if self._correct_state_waiting is not None and self._correct_state_waiting.done():
            self._correct_state_waiting = None
        return super()._correct_state()

    async def _correct_state_internal(self) -> None:
        async with self._lock:
            self._correct_state_waiting = None
            await self._reconcile()

    async def _reconcile(self) -> None:
        """Close what is not specified and start what is missing; raise once all of it has finished."""
        closing = [name for name in self.workers if name not in self.worker_spec]
        failures = await self._close_workers(closing)
        starting = [name for name in self.worker_spec if name not in self.workers]
        failures |= await self._open_workers(starting)
        if closing or starting:
            self.failures = failures
        if failures and self.status != Status.closing:  # then `_close` reports them
            raise combine_errors(failures)

    async def _close_workers(self, names: Collection[Any]) -> dict[Any, BaseException]:
        """Close nodes; those that fail stay in `workers`, and the next change tries them again."""
        closing_all = self.status == Status.closing and not self.worker_spec
        failures: dict[Any, BaseException] = {}
        if names and self.scheduler.status == Status.running and not closing_all:
            failures = await self._retire_workers(names)
        # A lost node may have been dropped in the meantime.
        handles = {
            name: self.workers[name]
            for name in names
            if name in self.workers and name not in failures
        }
        closing = (handle.close() for handle in handles.values())
        results = await asyncio.gather(*closing, return_exceptions=True)
        for (name, handle), result in zip(handles.items(), results, strict=True):
            if isinstance(result, BaseException):
                failures[name] = result
                with suppress(NotImplementedError):  # some handles have a fixed status
                    handle.status = Status.failed
            else:
                self._drop(name)
        return failures

    async def _retire_workers(self, names: Iterable[Any]) -> dict[Any, BaseException]:
        """Retire the workers of these nodes; return the errors of the nodes that must stay."""
        # By name: SpecCluster passes names as addresses, which retires no worker, and the results of
        # the leaving workers are computed again.
        dask_names = {name: [str(n) for n in self._dask_names_of(name)] for name in names}
        requested = {dask_name for node in dask_names.values() for dask_name in node}
        remaining, reason = requested, NO_RECIPIENT
        try:
            async with asyncio.timeout(RETIRE_TIMEOUT):
                retired = await self.scheduler_comm.retire_workers(
                    names=sorted(requested), remove=True, close_workers=True
                )
                remaining = requested - {str(worker["name"]) for worker in retired.values()}
                if remaining:  # unless the scheduler has not known them, or has lost them
                    known = (await self.scheduler_comm.identity())["workers"].values()
                    remaining &= {str(worker["name"]) for worker in known}
        except TimeoutError:
            reason = f"timed out after {RETIRE_TIMEOUT:g} s"
        except OSError as error:
            reason = f"the scheduler does not answer ({error})"
        failed = [name for name, node in dask_names.items() if not remaining.isdisjoint(node)]
        if not failed:
            return {}
        if not any(name in self.worker_spec and self._is_joined(name) for name in self.workers):
            logger.warning(
                "results of %s are lost: no worker stays to take them over",
                ", ".join(map(str, failed)),
            )
            return {}
        return {
            name: PlanapplyError(
                f"{name}: cannot retire the workers: {reason}",
                "They keep running, so that no results are lost; the next change tries again. To "
                "terminate a node of a spec without moving its results, run "
                f"`planapply destroy --target {shlex.quote(str(name))} --no-retire`.",
            )
            for name in failed
        }

    async def _open_workers(self, names: Collection[Any]) -> dict[Any, BaseException]:
        """Start nodes; those that start are kept even if others fail."""
        failures: dict[Any, BaseException] = {}
        handles = {}
        for name in names:
            try:
                handles[name] = self._create_handle(name)
            except Exception as error:  # such as the import of a class that does not exist
                failures[name] = error
        starting = {name: asyncio.ensure_future(handle) for name, handle in handles.items()}
        if starting:
            await asyncio.wait(starting.values())
        for name, start in starting.items():
            handle = handles[name]
            if start.cancelled() or start.exception():
                failures[name] = start.exception() or asyncio.CancelledError()
                if not isinstance(handle, VMProcess):  # of that, an intent is left at most
                    with suppress(Exception):
                        await handle.close()
                continue
            self._created.add(handle)
            handle._cluster = weakref.ref(self)
            self.workers[name] = handle
        return failures

    def _create_handle(self, name: Any) -> Any:
        entry = self.worker_spec[name]
        cls, options = entry["cls"], {"name": name, **entry.get("options", {})}
        if isinstance(cls, str):
            cls = import_term(cls)
        suffixes = entry.get("group")
        dask_names = [f"{name}{suffix}" for suffix in suffixes] if suffixes else [options["name"]]
        self._dask_names[name] = dask_names
        self._nodes.update({str(dask_name): name for dask_name in dask_names})
        contact_address = getattr(self.scheduler, "contact_address", None) or self.scheduler.address
        return cls(contact_address, **options)

    def _drop(self, name: Any) -> None:
        self.workers.pop(name, None)
        for dask_name in self._dask_names.pop(name, ()):
            self._nodes.pop(str(dask_name), None)

    # News from the scheduler.

    def _dask_names_of(self, name: Any) -> list[Any]:
        """Return the names of a node's Dask workers."""
        return self._dask_names.get(name, [name])

    def _is_joined(self, name: Any) -> bool:
        """Return whether the scheduler knows any of a node's Dask workers."""
        # As text: SpecCluster's names are numbers, which may have become text at the scheduler.
        present = {str(worker["name"]) for worker in self.scheduler_info["workers"].values()}
        return any(str(dask_name) in present for dask_name in self._dask_names_of(name))

    def _update_worker_status(self, op: str, msg: Any) -> None:
        if op != "remove":
            super()._update_worker_status(op, msg)
            return
        # For an unknown worker, SpecCluster raises KeyError, and then receives no more updates.
        worker = self.scheduler_info["workers"].pop(msg, None)
        if worker is not None and self.status == Status.running:
            timeout = dask.config.get("distributed.deploy.lost-worker-timeout")
            self._schedule_lost_check(parse_timedelta(timeout), worker["name"])

    def _schedule_lost_check(self, seconds: float, dask_name: Any) -> None:
        def on_timeout() -> None:
            self._timers.discard(timer)
            name = self._nodes.get(str(dask_name))
            # A node that is being closed is not lost.
            if name in self.workers and name in self.worker_spec and not self._is_joined(name):
                task = asyncio.ensure_future(self._check_lost(name))
                self._futures.add(task)
                task.add_done_callback(self._futures.discard)

        timer = asyncio.get_running_loop().call_later(seconds, on_timeout)
        self._timers.add(timer)

    async def _check_lost(self, name: Any) -> None:
        """Handle a node that the scheduler has lost, unless its VM still exists."""
        handle = self.workers.get(name)
        try:
            if isinstance(handle, VMProcess) and await handle.exists():
                logger.warning("%s has left the scheduler, but its VM exists and is kept", name)
                return
            async with self._lock:
                if handle is not None and self.workers.get(name) is handle:
                    await self._handle_lost(name)
        except Exception as error:
            logger.warning("%s has left the scheduler; keeping it as it is: %s", name, error)

    async def _handle_lost(self, name: Any) -> None:
        """Drop a lost node, as SpecCluster does; the next change starts it again."""
        options = self.worker_spec[name].get("options", {})
        if "record" in options:  # the record of the VM that was lost
            fresh = {key: value for key, value in options.items() if key != "record"}
            self.worker_spec[name] = {**self.worker_spec[name], "options": fresh}
        handle = self.workers[name]
        self._drop(name)
        await handle.close()

    async def _poll_scheduler(self) -> None:
        # The scheduler sends updates to one cluster object only, the one that connected last.
        while self._is_polling:
            await asyncio.sleep(POLL_FACTOR * self._sync_interval)
            before = {*self.scheduler_info["workers"]}
            try:
                identity = await self.scheduler_comm.identity()
                now = self.scheduler_info["workers"]
                # A worker that joined during the request may be missing in the response.
                identity["workers"] |= {a: now[a] for a in now.keys() - before}
                if self._is_polling:
                    await self._apply_identity(identity)
            except Exception as error:  # the next poll may succeed
                logger.debug("cannot poll the scheduler: %s", error)

    async def _apply_identity(self, identity: Mapping[str, Any]) -> None:
        known = self.scheduler_info.get("workers", {})
        for address in known.keys() - identity["workers"].keys():
            self._update_worker_status("remove", address)
        self.scheduler_info = SchedulerInfo(identity)

    # Closing.

    async def _close(self) -> None:
        await self._stop_polling()
        try:
            await super()._close()
        except BaseException as error:
            # Otherwise another close() would wait for this one forever, and the rest stay open.
            if self.status != Status.closing:
                raise
            if not isinstance(error, Exception):  # such as its timeout
                self.status = Status.failed
                raise
            self.failures.setdefault("scheduler", error)
            self._leave_context()
            await DaskCluster._close(self)
            remaining = self.failures
        else:
            remaining = {
                name: error for name, error in self.failures.items() if name in self.workers
            }
        if remaining:
            self.status = Status.failed  # the next close() tries again
            raise combine_errors(remaining)

    async def _stop_polling(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._is_polling = False  # canceling alone is not enough: comms sometimes suppress it
        if self._poll_task is not None:
            self._poll_task.cancel()
            with suppress(asyncio.CancelledError):
                await self._poll_task

    def _leave_context(self) -> None:
        stack: contextlib.ExitStack = getattr(self, "_SpecCluster__exit_stack")  # noqa: B009
        stack.close()


def combine_errors(failures: Mapping[Any, BaseException]) -> BaseException:
    """Return one exception that names all failures; a single failure is returned as it is."""
    errors = list(failures.values())
    planapply_errors = [error for error in errors if isinstance(error, PlanapplyError)]
    if len(planapply_errors) == len(errors) > 1:
        # A diagnostic that several errors share is reported once.
        diagnostics = dict.fromkeys(d for error in planapply_errors for d in error.diagnostics)
        return PlanapplyError(diagnostics=tuple(diagnostics))
    first = errors[0]
    for name, error in list(failures.items())[1:]:
        first.add_note(f"{name}: {error}")
    return first
