"""One round of `watch`: look without the lock; if there is something to do, lock, look again, do it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial

from planapply.diff import RefreshResult
from planapply.diff.heal import HealOptions, HealPlan, create_cleanup_plan, create_heal_plan
from planapply.diff.progress import is_carried_out
from planapply.fleet import (
    Journal,
    Listener,
    PriceList,
    ProviderClient,
    ProviderFailed,
    run_interruptibly,
)
from planapply.model.diagnostics import NOT_RETIRED, Diagnostic, PlanapplyError, Severity
from planapply.model.event import Event
from planapply.model.history import WATCH_CHANGE, Spend
from planapply.model.plan import Action
from planapply.model.spec import Spec
from planapply.model.state import State
from planapply.model.watch import Round
from planapply.ops.apply import ApplyOptions, execute_plan, lock, make_recorder, open_fleet
from planapply.ops.cluster_end import CannotWatch, check_scheduler, end_suffix, has_terminated
from planapply.ops.cost import CostLimits, add_cost
from planapply.ops.end_reasons import explain_ends, has_unrecorded_ends, record_ends
from planapply.ops.load import LoadChange, LoadFollower
from planapply.ops.node_observer import NodeObserver, NodeReport
from planapply.ops.node_secrets import check_secrets
from planapply.ops.plan import PlanResult
from planapply.ops.preflight import check_plan
from planapply.ops.record import total_spending
from planapply.ops.refresh import refresh_state
from planapply.ops.resolve import resolve_spec
from planapply.ops.workspace import Workspace
from planapply.render.values import format_total
from planapply.store import LockInfo, StateError

COST_INTERVAL = 600.0
"""Seconds between two looks at what the cluster has cost."""
LOCK_TIMEOUT = 5.0
"""Seconds to wait for the lock of another process, at least: another watcher holds it for a moment only."""
WARN_SHARE = 0.8
"""Share of `max_total_cost` from which on a warning is shown."""


@dataclass(frozen=True)
class _Look:
    """The state, what exists, and the plan that follows from both."""

    planned: PlanResult
    heal: HealPlan
    report: NodeReport = field(default_factory=NodeReport)
    problems: tuple[PlanapplyError, ...] = ()
    warnings: tuple[Diagnostic, ...] = ()
    end: str = ""
    """How the cluster has ended, if its VMs that the cloud keeps are terminated."""

    @property
    def has_work(self) -> bool:
        """Return whether there is something to do that needs the lock."""
        found = self.planned.refreshed
        return bool(
            self.planned.plan.changes
            or self.report.joined
            or found.adopted
            or found.addresses
            or found.state.intents
            or dict(self.heal.attempts) != found.state.attempts
            or (self.end and has_unrecorded_ends(found))
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
    _load_problems: tuple[PlanapplyError, ...] = ()
    """Why the load cannot be followed, when this round looked."""
    _client: ProviderClient | None = None
    _found: "_Look | None" = None
    """The result of the last look; None if the cluster has ended."""
    _end: str = ""
    _connected_for: object = None
    """The spec and settings for which the provider was connected."""
    _observer: NodeObserver = field(init=False)
    _checked_cost_at: float | None = None
    _cost_warnings: tuple[Diagnostic, ...] = ()

    def __post_init__(self) -> None:
        self._observer = NodeObserver(self.workspace)
        self._load = LoadFollower(self.workspace, self.on_note)

    def close(self) -> None:
        """Let another process follow the load. Raises StateError."""
        self._load.close()

    def run_round(self) -> Round:
        """Run one round. Raises PlanapplyError; CannotWatch if another round would change nothing."""
        try:
            if not self._needs_lock():
                return self._report()
            timeout = max(self.lock_timeout, LOCK_TIMEOUT)
            with lock(self.workspace, WATCH_CHANGE, timeout, self.on_event) as held:
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
            return Round(end=self._end)
        return Round(
            end=found.end,
            lost=found.heal.lost,
            given_up=found.heal.given_up,
            problems=found.problems,
            warnings=found.warnings,
            is_scheduler_silent=found.report.is_silent,
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
            self._end = "the cluster was destroyed"
            return
        workspace.follow(state)
        client = self._connect(state)
        refreshed = explain_ends(
            client, refresh_state(workspace, client, state, resources=is_locked)
        )
        if has_terminated(refreshed):
            self._end = f"the cluster has terminated itself{end_suffix(refreshed)}"
            if workspace.spec is not None and state.nodes:
                self._found = self._plan_end(client, refreshed)
            return
        check_scheduler(refreshed)
        if workspace.spec is None:
            raise CannotWatch(
                f"cannot watch cluster {state.cluster!r}: the state does not record the spec that was applied last",
                "Run `planapply apply`, which records it.",
            )
        self._found = self._plan(client, refreshed, is_locked)

    def _connect(self, state: State) -> ProviderClient:
        """Return the provider's client; a new one only if another spec was applied, or after an error."""
        wanted = (state.lineage, state.spec, state.settings)
        if self._client is None or self._connected_for != wanted:
            self._client, self._connected_for = self.workspace.connect(state), wanted
        return self._client

    def _plan_end(self, client: ProviderClient, refreshed: RefreshResult) -> "_Look":
        """Return what remains to do when the cluster has terminated itself: remove VMs that are kept."""
        assert self.workspace.spec is not None
        plugin = self.workspace.plugin(refreshed.state)
        desired, pins = resolve_spec(plugin, client, self.workspace.spec, refreshed.state)
        heal = create_cleanup_plan(desired, refreshed)
        made = heal.plan.model_copy(update={"pins": pins})
        return _Look(PlanResult(made, refreshed, client, {}), heal, end=self._end)

    def _plan(self, client: ProviderClient, refreshed: RefreshResult, is_locked: bool) -> "_Look":
        workspace, state = self.workspace, refreshed.state
        assert workspace.spec is not None
        desired, pins = resolve_spec(workspace.plugin(state), client, workspace.spec, state)
        report = self._observer.observe(
            refreshed, desired.join_timeout, client.limits.consistency_delay
        )
        resources = (
            client.required_resources(desired.cluster, desired.scheduler) if is_locked else None
        )
        if not is_locked:
            self._follow_load(workspace.spec, refreshed)
        load = self._load_change
        options = HealOptions(
            sizes={load.group: load.size} if load else {},
            idle=load.remove if load else (),
            now=workspace.clock.time(),
            not_joined=report.late,
            notices=report.notices,
            paused=self.paused,
            resources=resources,
        )
        heal = create_heal_plan(desired, refreshed, options)
        problems = self._load_problems
        made = heal.plan
        if made.changes:
            try:
                if is_locked:
                    check_plan(made, client)
                check_secrets(made, client)
                made = add_cost(made, refreshed, client, CostLimits.of(desired))
            except ProviderFailed:
                raise
            except PlanapplyError as error:
                # What costs nothing more is done nevertheless.
                problems = (*problems, error)
                heal = create_heal_plan(desired, refreshed, replace(options, can_launch=False))
                made = heal.plan
        made = made.model_copy(update={"pins": pins})
        planned = PlanResult(
            made, refreshed, client, dict(resources or {}), max_cost=desired.max_cost
        )
        warnings = self._check_total_cost(client, refreshed, desired.max_total_cost)
        if heal.is_ending and heal.lost:
            warnings = (*warnings, _ENDS_SOON)
        return _Look(planned, heal, report, problems, warnings)

    def _follow_load(self, spec: Spec, refreshed: RefreshResult) -> None:
        """Find the change that the load requires; lost nodes are launched again also if that fails."""
        self._load_change, self._load_problems = None, ()
        try:
            self._load_change = self._load.required_change(spec, refreshed.state, refreshed.gone)
        except StateError as error:
            self._load_problems = (error,)

    def _check_total_cost(
        self, client: ProviderClient, refreshed: RefreshResult, limit: float | None
    ) -> tuple[Diagnostic, ...]:
        """Return a warning if the cluster has cost most of `max_total_cost`; computed from time to time."""
        clock = self.workspace.clock
        if limit is None:
            return ()
        checked_at, now = self._checked_cost_at, clock.monotonic()
        if checked_at is None or now - checked_at >= COST_INTERVAL:
            prices = PriceList(client)
            spend = total_spending(refreshed.state, prices, clock.time(), refreshed.gone)
            is_near = spend is not None and spend.usd >= WARN_SHARE * limit
            self._checked_cost_at = now
            self._cost_warnings = (_cost_warning(spend, limit),) if spend and is_near else ()
        return self._cost_warnings

    def _carry_out(self, look: "_Look", held: LockInfo) -> Round:
        """Do what was found, with the executor, intents, and history of an apply."""
        planned, state = look.planned, look.planned.refreshed.state
        state.attempts = {name: [*vms] for name, vms in look.heal.attempts.items()}
        record_ends(state, planned.refreshed, self.workspace.clock.time())
        report = look.report
        if report.joined:
            from planapply.dask.wait_for_join import record_joins  # imports asyncio

            record_joins(state, report.joined, report.dashboard, self.workspace.clock.time())
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
        changes, report = look.planned.plan.changes, look.report
        removed = [c.name for c in changes if c.kind == "node" and c.action is Action.DESTROY]
        return Round(
            end=look.end,
            lost=look.heal.lost,
            launched=tuple(events.names["launched"]),
            not_launched=tuple(
                change.name
                for change in changes
                if change.kind == "node"
                and change.after is not None
                and change.name in failures
                and change.name not in events.names["launched"]
                and failures[change.name].diagnostics[0].code != NOT_RETIRED
            ),
            removed=tuple(name for name in removed if name not in failures),
            joined=(*report.joined, *events.names["joined"]),
            strays=tuple(change.name for change in changes if change.kind == "stray"),
            adopted=look.planned.refreshed.adopted,
            given_up=look.heal.given_up,
            failures=failures,
            problems=look.problems,
            warnings=look.warnings,
            is_scheduler_silent=report.is_silent,
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


_ENDS_SOON = Diagnostic(
    severity=Severity.WARNING,
    summary="nothing is launched any more: the scheduler's `ttl` ends within `join_timeout`",
    code="cluster_ends_soon",
)


def _cost_warning(spend: Spend, limit: float) -> Diagnostic:
    share = round(100 * spend.usd / limit)
    return Diagnostic(
        severity=Severity.WARNING,
        summary=f"the cluster has cost {format_total(spend)} USD so far, {share} % of `max_total_cost` "
        f"({limit:.2f} USD)",
        detail="When it would exceed that within an hour, nothing is launched any more. Raise `max_total_cost` "
        "under [cluster] and apply, or run `planapply destroy`.",
        code="max_total_cost_near",
    )
