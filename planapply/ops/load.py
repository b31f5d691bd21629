"""The load of a cluster: the number of nodes that it requires, and whether a watcher follows it."""

import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from planapply.diff.load import ElasticGroup, follow_load
from planapply.fleet import Listener
from planapply.model.diagnostics import Diagnostic, PlanapplyError, warning
from planapply.model.endpoint import current_endpoint
from planapply.model.event import Event
from planapply.model.names import split_name
from planapply.model.spec import AdaptSettings, Spec, WorkerGroup
from planapply.model.state import State
from planapply.ops.adaptive_lock import WATCH_LOAD, AdaptiveLock, AdaptiveLockHeld
from planapply.ops.workspace import Workspace


@dataclass(frozen=True)
class LoadChange:
    """The change of the group with `adapt` that the load requires."""

    group: str
    size: int
    """The number of nodes after it."""
    remove: tuple[str, ...] = ()
    """The idle nodes that leave."""


class LoadFollower:
    """A watcher's memory of the load: which nodes are idle, and since when.

    While it follows the load, it holds the adaptive lock: close it at the end.
    """

    def __init__(self, workspace: Workspace, on_event: Listener) -> None:
        self._workspace, self._on_event = workspace, on_event
        store = workspace.store
        self._lock = AdaptiveLock(store.location, store.aws, purpose=WATCH_LOAD)
        self._idle_since: dict[str, float] = {}
        self._is_following = self._is_refusal_reported = False

    def required_change(
        self, spec: Spec, state: State, gone: Collection[str] = ()
    ) -> LoadChange | None:
        """Return the change that the load requires now; None if it requires none, or if it is unknown.

        `gone` are nodes of the state whose VMs no longer exist. Call it in each round, also for a spec
        without `adapt`. Raises StateError if the adaptive lock cannot be reached.
        """
        found = find_adaptive_group(spec)
        if found is None:
            self.close()
            return None
        endpoint = current_endpoint(state)
        if endpoint is None or not self._follow():
            return None
        from planapply.dask.load import observe_load  # imports asyncio

        name, settings, adapt = found
        load = observe_load(endpoint, state.tls, adapt.target)
        if load is None:  # nothing is known about the nodes until it answers again
            self._idle_since = {}
            return None
        group = _elastic_group(name, settings, adapt, state, gone)
        now = self._workspace.clock.monotonic()
        self._idle_since, resize = follow_load(group, load, self._idle_since, now)
        if not resize or not self._still_follows():
            return None
        size = len(group.nodes) + resize.add - len(resize.remove)
        return LoadChange(name, size, resize.remove)

    def close(self) -> None:
        """Let another process adapt the cluster. Raises StateError.

        While an exception is handled, such as a signal's, wait only a few seconds for a bucket.
        """
        self._is_following, self._idle_since = False, {}
        self._lock.release(is_stopping=sys.exception() is not None)

    def _follow(self) -> bool:
        """Take the adaptive lock unless it is held; return False if another process adapts the cluster."""
        if self._is_following:
            return True
        try:
            held = self._lock.acquire()
        except AdaptiveLockHeld as error:
            if not self._is_refusal_reported:  # once per run: it may last for days
                self._note(f"does not follow the load: {error.diagnostics[0].summary}")
            self._is_refusal_reported = True
            return False
        if held.taken_over is not None:
            self._note(
                f"took over the adaptive lock of a dead process: {held.taken_over.describe()}"
            )
        self._is_following = True
        return True

    def _still_follows(self) -> bool:
        """Return whether the lock is still held: `unlock` may have let another process adapt the cluster."""
        if self._lock.is_held():
            return True
        self.close()
        return self._follow()

    def _note(self, message: str) -> None:
        self._on_event(Event(event="note", message=message))


def find_adaptive_group(spec: Spec) -> tuple[str, WorkerGroup, AdaptSettings] | None:
    """Return the name and the settings of the group with `adapt`; None if there is none."""
    return next(
        ((name, group, group.adapt) for name, group in spec.workers.items() if group.adapt), None
    )


def load_warnings(workspace: Workspace, spec: Spec | None) -> Iterator[Diagnostic]:
    """Yield a warning if a group has `adapt`, but no process follows the load."""
    found = None if spec is None else find_adaptive_group(spec)
    if found is None:
        return
    store = workspace.store
    try:
        holder = AdaptiveLock(store.location, store.aws).holder()
    except PlanapplyError as error:
        yield from (warning(d.summary, d.detail) for d in error.diagnostics)
        return
    if holder is None:
        yield warning(
            f"group {found[0]!r} has `adapt`, but no watcher follows the load",
            "Until `planapply watch` runs, the group keeps its number of nodes.",
        )


def _elastic_group(
    name: str, settings: WorkerGroup, adapt: AdaptSettings, state: State, gone: Collection[str]
) -> ElasticGroup:
    requested = {node for intent in state.intents.values() for node in intent.names}
    existing = {n for n, record in state.nodes.items() if record.status != "terminating"}
    threads = settings.options.get("nthreads")
    per_worker = threads if type(threads) is int and threads > 0 else None
    return ElasticGroup(
        nodes=frozenset(
            node
            for node in (existing | requested).difference(gone)
            if split_name(node)[0] == name != node
        ),
        min=settings.min or 0,
        max=settings.max or 0,
        processes=settings.processes,
        threads=per_worker * settings.processes if per_worker else settings.cpus,
        idle=adapt.idle,
    )
