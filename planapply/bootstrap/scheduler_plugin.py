"""planapply's plugin on the scheduler's node, where planapply itself is not installed.

As a script, it is `dask spec` with this file as one more preload of the scheduler.
"""

import asyncio
import json
import os
import re
import sys
from time import monotonic
from typing import Any

import dask
from dask.utils import parse_timedelta
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.metrics import time
from tornado.ioloop import PeriodicCallback

MAX_DURATION = 10 * 365 * 86400.0
INTERVAL = 500  # milliseconds
WORKER_CLIENT = re.compile(r"\w+-worker-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Lifetimes(SchedulerPlugin):
    """The times after which the scheduler closes; they can change while it runs."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.no_client_timeout: float | None = None
        self.last_client = monotonic()
        self.reason = ""
        self.closing: Any = None
        # The file has what was changed, also after a reboot of the VM.
        self.path = os.environ.get("PLANAPPLY_LIFETIMES", "")
        if os.path.exists(self.path):
            with open(self.path) as file:
                self._set(**json.load(file))

    def read(self) -> dict[str, float | None]:
        """Return the times in seconds, and for how long the cluster was idle and without a client."""
        idle_since = self.scheduler.idle_since
        has_client = self._has_client()
        return {
            "idle_timeout": self.scheduler.idle_timeout,
            "no_client_timeout": self.no_client_timeout,
            "idle_for": max(0.0, time() - idle_since) if idle_since else None,
            "no_client_for": None if has_client else monotonic() - self.last_client,
        }

    def change(
        self, idle_timeout: float | None, no_client_timeout: float | None
    ) -> dict[str, float | None]:
        """Set both times, in seconds or None for never; record them, and return what `read` does.

        Both count from now on, so that a shorter time closes no cluster at once.
        """
        times = {"idle_timeout": idle_timeout, "no_client_timeout": no_client_timeout}
        for key, value in times.items():
            if value is not None and not (
                type(value) in (int, float) and 0 < value <= MAX_DURATION
            ):
                raise ValueError(f"{key} is not a duration in seconds")
        if self.path:
            with open(self.path + ".new", "w") as file:
                json.dump(times, file)
            os.replace(self.path + ".new", self.path)
        self._set(**times)
        self.last_client = monotonic()
        if self.scheduler.idle_since:
            self.scheduler.idle_since = time()
        return self.read()

    def _set(self, **times: float | None) -> None:
        if "idle_timeout" in times:
            self.scheduler.idle_timeout = parse_timedelta(
                times["idle_timeout"] or dask.config.get("distributed.scheduler.idle-timeout")
            )
        self.no_client_timeout = times.get("no_client_timeout")

    def _has_client(self) -> bool:
        # Queues and variables are among `clients`, too, but only clients have a connection.
        scheduler = self.scheduler
        return any(
            name in scheduler.clients and not WORKER_CLIENT.fullmatch(name)
            for name in scheduler.client_comms
        )

    def add_client(self, scheduler: Any, client: str) -> None:
        """Note a client that may be gone before the next check."""
        if not WORKER_CLIENT.fullmatch(client):
            self.last_client = monotonic()

    remove_client = add_client

    def check(self) -> None:
        """Close the scheduler if there was no client for too long, unless it has tasks to do."""
        scheduler = self.scheduler
        if self._has_client():
            self.last_client = monotonic()
        elif (
            self.no_client_timeout
            and monotonic() - self.last_client > self.no_client_timeout
            and not self._is_busy()
            and scheduler.status.name == "running"
        ):
            self.reason = "no_client_timeout"
            self.closing = asyncio.ensure_future(
                scheduler.close(reason="no-client-timeout-exceeded")
            )

    def _is_busy(self) -> bool:
        """Return whether a task is queued or processing, as `Scheduler.check_idle` does."""
        scheduler = self.scheduler
        return bool(
            getattr(scheduler, "_active_graph_updates", 0) > 0
            or scheduler.queued
            or scheduler.unrunnable
            or any(worker.processing for worker in scheduler.workers.values())
        )

    async def before_close(self) -> None:
        """Print why the scheduler closes, if it does by itself."""
        scheduler = self.scheduler
        idle_since, timeout = scheduler.idle_since, scheduler.idle_timeout
        if not self.reason and timeout and idle_since and time() > idle_since + timeout:
            self.reason = "idle_timeout"
        if self.reason:
            print("planapply: this cluster ends:", self.reason, flush=True)


def dask_setup(scheduler: Any) -> None:
    """Add the plugin to a scheduler that starts."""
    plugin = Lifetimes(scheduler)
    scheduler.add_plugin(plugin, name="planapply")
    scheduler.handlers["planapply_lifetimes"] = plugin.read
    scheduler.handlers["planapply_set_lifetimes"] = plugin.change
    callback = PeriodicCallback(plugin.check, INTERVAL)
    scheduler.periodic_callbacks["planapply"] = callback
    callback.start()


def add_preload(preload: Any, path: str) -> list[str]:
    """Return preloads with one more, for a name, a list of names, or None."""
    return [*([preload] if isinstance(preload, str) else preload or ()), path]


def add_arguments(arguments: Any) -> Any:
    """Return the arguments of preloads with none for one more; a flat list is for all of them."""
    return [*arguments, []] if arguments and not isinstance(arguments[0], str) else arguments


def main() -> None:
    """Run `dask spec` with this plugin; the user's preloads stay."""
    from distributed.cli.dask_spec import main as dask_spec

    path = os.environ["PLANAPPLY_PLUGIN"]
    arguments = sys.argv[1:]
    place = arguments.index("--spec") + 1
    spec = json.loads(arguments[place])
    options = spec["opts"]
    if options.get("preload"):  # else Dask uses those of its configuration
        options["preload"] = add_preload(options["preload"], path)
    if "preload_argv" in options:
        options["preload_argv"] = add_arguments(options["preload_argv"])
    arguments[place] = json.dumps(spec)
    preload, argv = (dask.config.get(key, None) for key in PRELOAD_KEYS)
    values = (add_preload(preload, path), add_arguments(argv))
    dask.config.set(dict(zip(PRELOAD_KEYS, values, strict=True)))
    dask_spec(arguments)


PRELOAD_KEYS = ("distributed.scheduler.preload", "distributed.scheduler.preload-argv")

if __name__ == "__main__":
    main()
