"""One round of `watch`: look without the lock; if there is something to do, lock, look again, do it."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial

from planapply.diff import RefreshResult
from planapply.diff.heal import HealOptions, HealPlan, create_heal_plan
from planapply.diff.progress import is_carried_out
from planapply.diff.resize import loss_reason
from planapply.fleet import (
    Journal,
    Listener,
    ProviderClient,
    ProviderFailed,
    run_interruptibly,
)
from planapply.model.diagnostics import PlanapplyError
from planapply.model.endpoint import current_endpoint
from planapply.model.event import Event
from planapply.model.history import WATCH_CHANGE
from planapply.model.names import SCHEDULER
from planapply.model.plan import Action, Change, ChangeReason
from planapply.model.watch import Round
from planapply.ops.apply import ApplyOptions, execute_plan, lock, make_recorder, open_fleet
from planapply.ops.cost import CostLimits, add_cost
from planapply.ops.load import LoadChange, LoadFollower
from planapply.ops.plan import PlanResult
from planapply.ops.preflight import check_plan
from planapply.ops.refresh import refresh_state
from planapply.ops.resolve import resolve_spec
from planapply.ops.workspace import Workspace
from planapply.store import LockInfo


class CannotWatch(PlanapplyError):
    """A cluster that cannot be watched any longer; another round would change nothing."""

    code = "cannot_watch"


@dataclass(frozen=True)
class _Look:
    """The state, what exists, and the plan that follows from both."""

    planned: PlanResult
    heal: HealPlan
    joined: tuple[str, ...] = ()
    dashboard: int | None = None
    problems: tuple[PlanapplyError, ...] = ()
    is_scheduler_silent: bool = False

    @property
    def has_work(self) -> bool:
        """Return whether there is something to do that needs the lock."""
        found = self.planned.refreshed
        return bool(
            self.planned.plan.changes
            or self.joined
            or found.adopted
            or found.addresses
            or found.state.intents
            or dict(self.heal.attempts) != found.state.attempts
        )


@dataclass
class Healer:
    """Runs the rounds of one `watch`.

    `stop_on_signal` returns a context in which a signal stops the clock instead of ending the process.
    With `wait`, a round waits until the nodes that it launched have joined.
    """

    workspace: Workspace
    stop_on_signal: Callable[[], AbstractContextManager[object]]
    on_event: Listener = lambda event: None
    on_note: Listener = lambda event: None
    """Receives what people should read, too."""
    wait: bool = False
    lock_timeout: float = 0.0
    paused: frozenset[str] = frozenset()
    """Groups for which nothing is launched now."""
    _load: LoadFollower = field(init=False)
    _load_change: LoadChange | None = None
    """The change that the load required when this round looked without the lock."""
    _client: ProviderClient | None = None
    _found: "_Look | None" = None
    """The result of the last look; None if the cluster has ended."""
    _ended: str = ""
    _join_deadlines: dict[str, float] = field(default_factory=dict)
    """VM -> when it must have joined, on a clock that never jumps."""

    def __post_init__(self) -> None:
        self._load = LoadFollower(self.workspace, self.on_note)

    def close(self) -> None:
        """Let another process follow the load. Raises StateError."""
        self._load.close()

    def run_round(self) -> Round:
        """Run one round. Raises PlanapplyError; CannotWatch if another round would change nothing."""
        try:
            if not self._needs_lock():
                return self._report()
            with lock(self.workspace, WATCH_CHANGE, self.lock_timeout, self.on_event) as held:
                self._look(is_locked=True)
                if self._found is None or not self._found.has_work:
                    return self._report()
                with self.stop_on_signal():
                    return self._carry_out(self._found, held)
        except Exception:
            self._client = None  # the next round reads new credentials
            raise

    def _needs_lock(self) -> bool:
        try:
            self._look(is_locked=False)
        except CannotWatch:
            return True  # a destroy that is running looks the same
        return self._found is not None and self._found.has_work

    def _report(self) -> Round:
        """Return the result of a round that does nothing."""
        found = self._found
        if found is None:
            return Round(ended=self._ended)
        return Round(
            lost=_lost(found.planned.plan.changes),
            given_up=found.heal.given_up,
            problems=found.problems,
            is_scheduler_silent=found.is_scheduler_silent,
        )

    def _look(self, *, is_locked: bool) -> None:
        """Read the state, and find out what exists and what to do."""
        workspace, self._found = self.workspace, None
        state = workspace.store.read()
        if state is None:
            raise CannotWatch(
                f"there is no state at {workspace.store.location}",
                "If the state was moved, pass its new location with --state.",
            )
        if state.is_empty:
            self._ended = "destroyed"
            return
        workspace.follow(state)
        self._client = client = self._client or workspace.connect(state)
        refreshed = refresh_state(workspace, client, state, resources=is_locked)
        if _has_terminated(refreshed):
            self._ended = "terminated"
            return
        _check_scheduler(refreshed)
        if workspace.spec is None:
            raise CannotWatch(
                f"cannot watch cluster {state.cluster!r}: the state does not record the spec that was applied last",
                "Run `planapply apply`, which records it.",
            )
        self._found = self._plan(client, refreshed, is_locked)

    def _plan(self, client: ProviderClient, refreshed: RefreshResult, is_locked: bool) -> "_Look":
        workspace, state = self.workspace, refreshed.state
        assert workspace.spec is not None
        desired, pins = resolve_spec(workspace.plugin(state), client, workspace.spec, state)
        joined, late, dashboard, is_silent = self._ask_scheduler(refreshed, desired.join_timeout)
        resources = (
            client.required_resources(desired.cluster, desired.scheduler) if is_locked else None
        )
        if not is_locked:
            self._load_change = self._load.required_change(workspace.spec, state, refreshed.gone)
        load = self._load_change
        options = HealOptions(
            sizes={load.group: load.size} if load else {},
            idle=load.remove if load else (),
            now=workspace.clock.time(),
            not_joined=late,
            paused=self.paused,
            resources=resources,
        )
        heal = create_heal_plan(desired, refreshed, options)
        problems: tuple[PlanapplyError, ...] = ()
        made = heal.plan
        if made.changes:
            try:
                if is_locked:
                    check_plan(made, client)
                made = add_cost(made, refreshed, client, CostLimits.of(desired))
            except ProviderFailed:
                raise
            except PlanapplyError as error:
                # What costs nothing more is done nevertheless.
                problems = (error,)
                heal = create_heal_plan(desired, refreshed, replace(options, can_launch=False))
                made = heal.plan
        made = made.model_copy(update={"pins": pins})
        planned = PlanResult(
            made, refreshed, client, dict(resources or {}), max_cost=desired.max_cost
        )
        return _Look(planned, heal, joined, dashboard, problems, is_silent)

    def _ask_scheduler(
        self, refreshed: RefreshResult, join_timeout: float
    ) -> tuple[tuple[str, ...], frozenset[str], int | None, bool]:
        """Return which launched nodes have joined, and which had enough time but have not.

        Also return the dashboard's port, and whether the scheduler was asked and does not answer: then
        no node is judged.
        """
        state, clock = refreshed.state, self.workspace.clock
        launched = {
            name: record
            for name, record in state.nodes.items()
            if record.status == "launched" and loss_reason(name, refreshed) is None
        }
        now, deadlines = clock.monotonic(), {}
        for record in launched.values():
            # The wall clock is read once for each VM, so that a later jump makes no node late.
            age = min(max(0.0, clock.time() - (record.launched_at or 0.0)), join_timeout)
            deadlines[record.vm] = self._join_deadlines.get(record.vm, now + join_timeout - age)
        self._join_deadlines = deadlines
        endpoint = current_endpoint(state)
        if not launched or endpoint is None:
            return (), frozenset(), None, False
        from planapply.dask.scheduler import probe  # imports asyncio

        info = probe(endpoint, state.tls)
        if info is None:
            return (), frozenset(), None, True
        joined, late = [], []
        for name, record in launched.items():
            config = state.configs.get(record.config)
            if name == SCHEDULER or info.has_joined(name, config.processes if config else 1):
                joined.append(name)
            elif now >= deadlines[record.vm]:
                late.append(name)
        return tuple(joined), frozenset(late), info.dashboard, False

    def _carry_out(self, look: "_Look", held: LockInfo) -> Round:
        """Do what was found, with the executor, intents, and history of an apply."""
        planned, state = look.planned, look.planned.refreshed.state
        state.attempts = {name: [*vms] for name, vms in look.heal.attempts.items()}
        if look.joined:
            from planapply.dask.wait_for_join import record_joins  # imports asyncio

            record_joins(state, look.joined, look.dashboard, self.workspace.clock.time())
        events = _Collector(self.on_event)
        if not (planned.plan.changes or state.intents):
            # Only to be recorded: no change of the cluster, and so not in its history.
            Journal(self.workspace.store, state).update(lambda _: None)
            return self._round(look, events, {})
        recorder = make_recorder(WATCH_CHANGE, held, self.workspace, planned)
        recorder.is_reached = partial(is_carried_out, planned.plan, wait=self.wait)
        fleet = open_fleet(self.workspace, planned, recorder, events, None)

        def execute_and_record() -> dict[str, PlanapplyError]:
            with recorder.watch(fleet.journal):
                if not planned.plan.changes:
                    fleet.resolve_intents({})
                failures = execute_plan(planned, fleet, ApplyOptions(wait=self.wait), recorder)
                recorder.finish(fleet.journal, "incomplete" if failures else "done")
            return failures

        failures = run_interruptibly(execute_and_record, self.workspace.clock, fleet.journal)
        return self._round(look, events, failures)

    def _round(
        self,
        look: "_Look",
        events: "_Collector",
        failures: dict[str, PlanapplyError],
    ) -> Round:
        changes = look.planned.plan.changes
        removed = [c.name for c in changes if c.kind == "node" and c.action is Action.DESTROY]
        return Round(
            lost=_lost(changes),
            launched=tuple(events.names["launched"]),
            not_launched=tuple(
                change.name
                for change in changes
                if change.kind == "node"
                and change.after is not None
                and change.name in failures
                and change.name not in events.names["launched"]
            ),
            removed=tuple(name for name in removed if name not in failures),
            joined=(*look.joined, *events.names["joined"]),
            strays=tuple(change.name for change in changes if change.kind == "stray"),
            adopted=look.planned.refreshed.adopted,
            given_up=look.heal.given_up,
            failures=failures,
            problems=look.problems,
            is_scheduler_silent=look.is_scheduler_silent,
        )


class _Collector:
    """A listener that passes events on, and keeps which nodes were launched and have joined."""

    def __init__(self, on_event: Listener) -> None:
        self._on_event = on_event
        self.names: dict[str, list[str]] = {"launched": [], "joined": []}

    def __call__(self, event: Event) -> None:
        if event.event in self.names:
            self.names[event.event] += event.names
        self._on_event(event)


_LOSSES = frozenset(
    {
        ChangeReason.VM_GONE,
        ChangeReason.VM_STOPPING,
        ChangeReason.VM_STOPPED,
        ChangeReason.NOT_JOINED,
        ChangeReason.SPOT_NOTICE,
    }
)


def _lost(changes: Iterable[Change]) -> tuple[Change, ...]:
    return tuple(change for change in changes if change.reason in _LOSSES)


def _has_terminated(refreshed: RefreshResult) -> bool:
    """Return whether no VM of the cluster runs any more, although nobody has destroyed it."""
    state = refreshed.state
    return (
        bool(state.nodes)
        and not state.intents
        and all(
            loss_reason(name, refreshed) in (*_POWERED_OFF, ChangeReason.VM_GONE)
            for name in state.nodes
        )
    )


_POWERED_OFF = (ChangeReason.VM_STOPPING, ChangeReason.VM_STOPPED)


class SchedulerLost(CannotWatch):
    """A cluster without a scheduler; its workers may be about to terminate themselves."""


def _check_scheduler(refreshed: RefreshResult) -> None:
    """Raise SchedulerLost if the cluster has no scheduler that workers can join."""
    state = refreshed.state
    name = f"cluster {state.cluster!r}"
    record = state.scheduler
    if record is None:
        raise SchedulerLost(
            f"cannot watch {name}: it has no scheduler", "Run `planapply apply` to create it."
        )
    reason = loss_reason(SCHEDULER, refreshed)
    if reason is ChangeReason.TERMINATION_IN_PROGRESS:
        raise SchedulerLost(
            f"cannot watch {name}: its scheduler is being terminated",
            "Run `planapply destroy` to finish, or `planapply apply` to create it again.",
        )
    if reason is not None:
        text = {
            ChangeReason.VM_GONE: "no longer exists",
            ChangeReason.VM_STOPPING: "is shutting down",
        }.get(reason, "is stopped")
        raise SchedulerLost(
            f"lost the scheduler of {name}: its VM {record.vm} {text}",
            "`planapply watch` does not launch a scheduler. Run `planapply apply`, which replaces all nodes.",
        )
