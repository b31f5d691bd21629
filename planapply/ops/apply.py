"""apply and destroy: lock, plan, confirm, execute, unlock."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from planapply.diff.progress import is_carried_out
from planapply.fleet import Fleet, Journal, Listener, run_interruptibly
from planapply.model.desired import resolve_client
from planapply.model.diagnostics import Diagnostic, PlanapplyError
from planapply.model.endpoint import current_endpoint
from planapply.model.event import Event
from planapply.model.plan import Mode, Plan, PlanRequest
from planapply.model.state import State
from planapply.ops.apply_hooks import run_apply_hooks
from planapply.ops.cost import make_budget
from planapply.ops.end_reasons import record_ends
from planapply.ops.existing import describe_origin
from planapply.ops.load import load_warnings
from planapply.ops.node_secrets import check_secrets
from planapply.ops.plan import PlanOptions, PlanResult, new_lineage, plan_from
from planapply.ops.record import Recorder, load_prices, start_spending
from planapply.ops.recorded_spec import spec_document
from planapply.ops.resize import resize_plan
from planapply.ops.saved import (
    changed_error,
    check_origin,
    compare_plans,
    other_cluster_error,
    saved_options,
)
from planapply.ops.waves import check_waves
from planapply.ops.workspace import Workspace
from planapply.store import LockInfo, tlsfiles


@dataclass(frozen=True)
class ApplyOptions:
    """The options of an apply."""

    wait: bool = True
    """Whether to wait until the launched nodes have joined."""
    retire: bool = True
    """Whether leaving workers must move their results to the others before they are terminated."""
    parallel: int | None = None
    """The maximum number of concurrent provider calls; None for the provider's limit."""
    lock_timeout: float = 0.0
    """Seconds to wait for a lock that another process holds."""
    new_cluster: bool = False
    """Whether to create a cluster although VMs of another one with this name exist."""


@dataclass
class Report:
    """The result of an apply."""

    plan: Plan
    confirmed: bool
    failures: dict[str, PlanapplyError] = field(default_factory=dict)
    """Errors by node; everything else was done, and is recorded."""
    writes: int = 0
    """The number of times that the state was written."""
    unknown: tuple[str, ...] = ()
    """The IDs of VMs with this cluster's tags that were left, because planapply did not launch them."""
    warnings: tuple[Diagnostic, ...] = ()
    """Warnings about the cluster as it is now."""


def apply(
    workspace: Workspace,
    confirm: Callable[[Plan], bool],
    options: PlanOptions = PlanOptions(),
    apply_options: ApplyOptions = ApplyOptions(),
    *,
    saved_plan: Plan | None = None,
    on_event: Listener = lambda event: None,
) -> Report:
    """Carry out the plan that `plan` would return, or `saved_plan`, if `confirm` returns True for it.

    Runs the hooks of the workspace. Raises PlanapplyError, and Stopped if the clock was stopped; what was
    done before is recorded.
    """
    mode = options.mode if saved_plan is None else saved_plan.mode
    purpose = _PURPOSES.get(mode, "apply")
    with (
        run_apply_hooks(workspace, purpose, on_event) as hooks,  # the last one without the lock
        lock(workspace, purpose, apply_options.lock_timeout, on_event) as held,
    ):
        state = workspace.store.read()
        if mode is Mode.SCALE:
            planned = resize_plan(workspace, options.sizes or {})
        elif saved_plan is None:
            planned = plan_from(workspace, state, options)
        else:
            planned = _plan_again(workspace, state, saved_plan)
        if planned.existing is not None and not apply_options.new_cluster:
            raise planned.existing
        wait = apply_options.wait and mode is not Mode.DESTROY
        check_waves(planned.plan, planned.refreshed.state, wait=wait)
        check_secrets(planned.plan, planned.client)
        if not confirm(planned.plan):
            return Report(planned.plan, confirmed=False)
        hooks.begin(planned)
        request = planned.plan.request or PlanRequest()
        what = request.command(purpose, mode).removeprefix("planapply ")
        recorder = make_recorder(what, held, workspace, planned)
        hooks.recorder = recorder
        recorder.is_reached = partial(is_carried_out, planned.plan, wait=wait)
        fleet = open_fleet(workspace, planned, recorder, on_event, apply_options.parallel)

        def execute_and_record() -> dict[str, PlanapplyError]:
            with recorder.watch(fleet.journal):
                failures = execute_plan(planned, fleet, apply_options, recorder)
                recorder.finish(fleet.journal, "incomplete" if failures else "done")
            return failures

        failures = run_interruptibly(execute_and_record, workspace.clock, fleet.journal)
        is_full_destroy = mode is Mode.DESTROY and not request.targets
        left = planned.refreshed.unknown if is_full_destroy else ()
        left = () if request.terminate_unknown else left
        unknown = tuple(sorted(vm.id for vm in left))
        hooks.failures, hooks.error = failures, unknown_error(unknown, planned.plan.cluster)
        return Report(
            planned.plan,
            True,
            failures,
            fleet.journal.writes,
            unknown,
            tuple(load_warnings(workspace, workspace.spec)) if mode is Mode.NORMAL else (),
        )


_PURPOSES = {Mode.DESTROY: "destroy", Mode.SCALE: "scale"}


def _plan_again(workspace: Workspace, state: State | None, saved_plan: Plan) -> PlanResult:
    """Make a saved plan again; raise PlanapplyError if the result is another plan."""
    spec = None if saved_plan.mode is Mode.DESTROY else workspace.spec
    check_origin(saved_plan, state, spec.digest if spec else None)
    if spec is not None and saved_plan.cluster != spec.cluster.name:
        raise other_cluster_error(saved_plan)
    differences: list[str] = []
    for options in saved_options(saved_plan):
        planned = plan_from(workspace, state, options)
        found = compare_plans(saved_plan, planned.plan)
        if not found:
            return planned
        differences = differences or found
    raise changed_error(saved_plan, differences)


@contextmanager
def lock(
    workspace: Workspace, purpose: str, timeout: float, on_event: Listener
) -> Iterator[LockInfo]:
    """Hold the state's lock; report the holder that it waits for."""

    def on_wait(holder: LockInfo) -> None:
        lock = "the lock of the watcher" if holder.is_watcher else "the state's lock"
        on_event(Event(event="waiting", message=f"for {lock}: {holder.describe()}"))

    clock = workspace.clock
    with workspace.store.lock(purpose, timeout, wait=clock.sleep, on_wait=on_wait) as held:
        if held.taken_over is not None:
            on_event(
                Event(
                    event="note",
                    message="took over the lock of a dead process: " + held.taken_over.describe(),
                )
            )
        yield held


def make_recorder(what: str, held: LockInfo, workspace: Workspace, planned: PlanResult) -> Recorder:
    """Return the recorder of a plan that is about to be carried out; `what` is the command."""
    state = planned.refreshed.state
    used = {change.after for change in planned.plan.changes}
    configs = [config for digest, config in planned.plan.configs.items() if digest in used]
    prices = load_prices(planned.client, state.nodes.values(), configs)
    if state.is_empty and planned.plan.mode is not Mode.DESTROY:
        start_spending(state, prices, workspace.clock.time())
    found = planned.refreshed
    return Recorder(
        what, held, workspace.clock, state, prices=prices, gone=found.gone, adopted=found.adopted
    )


def open_fleet(
    workspace: Workspace,
    planned: PlanResult,
    recorder: Recorder,
    on_event: Listener,
    parallel: int | None,
) -> Fleet:
    """Return the fleet of a locked state, after recording the plan's values for the whole cluster."""
    state = planned.refreshed.state
    plan = planned.plan
    before = state.model_dump(include=CLUSTER_FIELDS)
    if state.is_empty:  # the next cluster may be in another account or region
        state.cloud, state.pins = {}, {}
    cloud = state.cloud or planned.client.identity()
    state.lineage = state.lineage or new_lineage()
    state.cluster, state.provider, state.cloud = plan.cluster, plan.provider, cloud
    record_ends(state, planned.refreshed, workspace.clock.time())
    state.settings, state.next_index = dict(plan.settings), dict(plan.next_index)
    state.pins = {**state.pins, **plan.pins}
    if plan.mode is Mode.NORMAL and "client" not in plan.pins:
        state.pins.pop("client", None)  # a later "client" is another choice
    _record_spec(workspace, plan, state)
    if plan.mode in (Mode.NORMAL, Mode.DESTROY):
        state.attempts = {}  # `watch` may try again
    if plan.mode is not Mode.DESTROY:
        state.protect = plan.protect
    state.endpoint = current_endpoint(state)
    if not state.intents:  # an open request must be repeated with the same tags
        state.origin = describe_origin(workspace.store.location)
    journal = Journal(workspace.store, state, recorder.stamp)
    changed = before != state.model_dump(include=CLUSTER_FIELDS)
    has_drift = planned.refreshed.adopted or planned.refreshed.addresses
    if changed or plan.changes or has_drift:
        journal.update(lambda _: None)
    budget = make_budget(planned.client, planned.refreshed, planned.max_cost)
    return Fleet(planned.client, journal, on_event=on_event, parallel=parallel, budget=budget)


def _record_spec(workspace: Workspace, plan: Plan, state: State) -> None:
    """Record the spec of an apply to the whole cluster; drop the spec of a cluster that is destroyed."""
    if plan.request is not None and plan.request.targets:
        return
    if plan.mode is Mode.DESTROY:
        state.spec = None
    elif plan.mode is Mode.NORMAL and workspace.spec is not None:
        spec = resolve_client(workspace.spec, plan.pins)
        state.spec = spec_document(spec, workspace.plugin(None))


CLUSTER_FIELDS = {
    "attempts",
    "cloud",
    "cluster",
    "ended",
    "endpoint",
    "lineage",
    "next_index",
    "pins",
    "protect",
    "provider",
    "settings",
    "spec",
}


def execute_plan(
    planned: PlanResult, fleet: Fleet, apply_options: ApplyOptions, recorder: Recorder
) -> dict[str, PlanapplyError]:
    """Execute the plan; return the errors by node."""
    plan = planned.plan
    if plan.mode is Mode.REFRESH_ONLY:
        fleet.drop(sorted(planned.refreshed.gone))
        return {}
    failures: dict[str, PlanapplyError] = {}
    known = {vm.id for vm in (*planned.refreshed.strays, *planned.refreshed.unknown)}
    strays = [c.vm for c in plan.changes if c.kind == "stray" and c.vm in known]
    if strays:
        fleet.terminate_strays(strays)
        recorder.strays = len(strays)
    fleet.avoided = {c.name: c.current for c in plan.changes if c.current and c.is_reclaimed}
    wait = apply_options.wait and plan.mode is not Mode.DESTROY
    if plan.changes or (wait and fleet.journal.read(_has_nodes_to_join)):
        from planapply.dask.execute import execute  # imports distributed

        failures = asyncio.run(
            execute(
                plan,
                fleet,
                resources=planned.resources,
                refreshed=planned.refreshed,
                wait=wait,
                retire=apply_options.retire,
            )
        )
    discard_key(fleet.journal)
    return failures


def _has_nodes_to_join(state: State) -> bool:
    """Return whether an earlier apply was stopped, or did not wait, before all nodes had joined."""
    return any(record.status == "launched" for record in state.nodes.values())


def discard_key(journal: Journal) -> None:
    """Remove the TLS key of a destroyed cluster from its state and from the user's cache folder.

    The next cluster with this state gets a key of its own.
    """
    if journal.read(lambda state: state.is_empty and state.tls is not None):
        journal.update(_drop_key)
    lineage = journal.read(lambda state: state.lineage if state.tls is None else None)
    if lineage:
        tlsfiles.remove(lineage)


def _drop_key(state: State) -> None:
    state.tls = None


def unknown_error(ids: Sequence[str], cluster: str) -> PlanapplyError | None:
    """Return the error about VMs that a destroy has left; None if there are none."""
    if not ids:
        return None
    return PlanapplyError(
        f"left VMs with the tags of cluster {cluster!r} that planapply did not launch: {', '.join(ids)}",
        "Find out who launched them, and remove their tags or terminate them; or run "
        "`planapply destroy --terminate-unknown`.",
        code="unknown_vms",
    )
