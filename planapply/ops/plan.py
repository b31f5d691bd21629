"""plan: compare the spec, the state, and what exists."""

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from planapply import specfile
from planapply.diff import (
    DiffOptions,
    Protected,
    RefreshResult,
    create_destroy_plan,
    create_plan,
    create_refresh_plan,
    edited_settings,
    refresh,
)
from planapply.fleet import ProviderClient
from planapply.model.desired import DesiredState, resolve_client
from planapply.model.diagnostics import Diagnostic, PlanapplyError, note, warning
from planapply.model.plan import Action, FieldChange, Mode, Plan, PlanRequest
from planapply.model.spec import Spec
from planapply.model.state import Resource, State
from planapply.ops.cost import CostLimits, add_cost
from planapply.ops.data_loss import data_loss_warnings
from planapply.ops.end_reasons import explain_ends
from planapply.ops.existing import find_existing
from planapply.ops.node_secrets import secret_notes
from planapply.ops.preflight import access_warnings, check_plan, check_settings
from planapply.ops.recorded_spec import spec_document
from planapply.ops.refresh import refresh_state
from planapply.ops.resolve import client_notes, configs_of, resolve_spec
from planapply.ops.workspace import Workspace
from planapply.provider import Plugin
from planapply.providerkit import ME


@dataclass(frozen=True)
class PlanOptions:
    """The options of a plan."""

    mode: Mode = Mode.NORMAL
    refresh: bool = True
    """Whether to find out what exists."""
    targets: tuple[str, ...] = ()
    replace: tuple[str, ...] = ()
    terminate_unknown: bool = False
    """Whether to terminate VMs with this cluster's tags that planapply did not launch."""
    sizes: Mapping[str, int] | None = None
    """The numbers of nodes of elastic groups, in mode SCALE."""
    refresh_client: bool = False
    """Whether `"client"` stands for this Python from now on, and not for an earlier one."""
    pins: Mapping[str, Any] | None = None
    """The choices in a saved plan, to make that plan again."""


@dataclass
class PlanResult:
    """A plan, and what it was made from."""

    plan: Plan
    refreshed: RefreshResult
    client: ProviderClient
    resources: dict[str, Resource]
    """The supporting resources that the provider needs."""
    existing: PlanapplyError | None = None
    """The error for an apply that would create a second cluster of this name."""
    max_cost: float | None = None
    """USD per hour."""


def plan(workspace: Workspace, options: PlanOptions = PlanOptions()) -> PlanResult:
    """Return what an apply would do now; change nothing, and take no lock.

    Raises PlanapplyError for everything that the user can fix.
    """
    planned = plan_from(workspace, workspace.store.read(), options)
    notes = (*planned.plan.diagnostics, *_lock_warnings(workspace))
    planned.plan = planned.plan.model_copy(update={"diagnostics": notes})
    return planned


def _lock_warnings(workspace: Workspace) -> Iterator[Diagnostic]:
    """Yield a warning if another process holds the state's lock."""
    try:
        holder = workspace.store.lock_info()
    except PlanapplyError as error:
        yield from _as_warnings(error)
        return
    if holder is not None and not holder.is_this_process:
        yield warning(
            "the state is locked, so the plan may be outdated soon",
            f"{holder.describe()} Plan again when that process is done, or wait with --lock-timeout.",
        )


def plan_from(workspace: Workspace, state: State | None, options: PlanOptions) -> PlanResult:
    """Return a plan like `plan`, from a state that the caller has read."""
    client = workspace.connect(state)
    known = state or blank_state(workspace)
    refreshed = _refresh(workspace, client, known, options)
    if options.mode is Mode.DESTROY:
        protect = workspace.spec.cluster.protect if workspace.spec else workspace.protect
        with _losses_in_refusal(refreshed, options):
            made = create_destroy_plan(
                refreshed,
                options.targets,
                protect=protect,
                terminate_unknown=options.terminate_unknown,
            )
        made = add_cost(made, refreshed, client)
        losses = data_loss_warnings(made.changes, (), refreshed, ask=options.refresh)
        update = {"diagnostics": (*made.diagnostics, *losses), "request": _request(options)}
        return PlanResult(made.model_copy(update=update), refreshed, client, {})
    assert workspace.spec is not None
    plugin = workspace.plugin(state)
    desired_state, pins = resolve_spec(
        plugin,
        client,
        workspace.spec,
        known,
        options.pins,
        refresh_client=options.refresh_client,
    )
    check_same_cluster(desired_state, state, plugin)
    resources = client.required_resources(desired_state.cluster, desired_state.scheduler)
    existing = None
    if options.mode is Mode.REFRESH_ONLY:
        made = create_refresh_plan(desired_state, refreshed)
    else:
        diff_options = DiffOptions(
            options.targets,
            options.replace,
            client.can_retag,
            resources,
            options.terminate_unknown,
        )
        with _losses_in_refusal(refreshed, options):
            made = create_plan(desired_state, refreshed, diff_options)
        if known.is_empty and made.changes:
            existing = find_existing(workspace, client, known)
    planned_resources = _planned_resources(resources, refreshed.state, client, options)
    made = made.model_copy(update={"resources": planned_resources})
    if options.mode is Mode.NORMAL and options.refresh:
        check_plan(made, client)
    made = add_cost(made, refreshed, client, CostLimits.of(desired_state))
    notes = (
        *workspace.diagnostics,
        *client_notes(workspace.spec, pins),
        *(_as_warnings(existing) if existing else ()),
        *(check_settings(made, client) if options.refresh else ()),
        *client.notes(configs_of(desired_state)),
        *made.diagnostics,
        *data_loss_warnings(made.changes, made.waves, refreshed, ask=options.refresh),
        *access_warnings(made),
        *_lifetime_notes(made, desired_state, client),
        *secret_notes(made, refreshed.state),
    )
    return PlanResult(
        made.model_copy(
            update={
                "diagnostics": notes,
                "edited": _edited(made, resolve_client(workspace.spec, pins), known, plugin),
                "pins": pins,
                "overrides": _plan_overrides(workspace),
                "request": _request(options),
            }
        ),
        refreshed,
        client,
        dict(resources),
        existing,
        desired_state.max_cost,
    )


def _plan_overrides(workspace: Workspace) -> tuple[str, ...]:
    """Return the `--set` options except those of hooks, which a plan must not contain."""
    return tuple(
        option
        for option in workspace.overrides
        if specfile.parse_override_key(option)[:1] != ("hooks",)
    )


@contextmanager
def _losses_in_refusal(refreshed: RefreshResult, options: PlanOptions) -> Iterator[None]:
    """Add to the refusal of a protected cluster's plan what the plan would have lost."""
    try:
        yield
    except Protected as refused:
        losses = data_loss_warnings(refused.changes, refused.waves, refreshed, ask=options.refresh)
        raise PlanapplyError(
            diagnostics=(*refused.diagnostics, *losses), code=refused.code
        ) from refused


def _edited(made: Plan, spec: Spec, state: State, plugin: Plugin) -> tuple[FieldChange, ...]:
    if made.mode is not Mode.NORMAL or state.spec is None:
        return ()
    return edited_settings(state.spec, spec_document(spec, plugin), made.changes)


def _request(options: PlanOptions) -> PlanRequest:
    return PlanRequest(
        refresh=options.refresh,
        targets=options.targets,
        replace=options.replace,
        terminate_unknown=options.terminate_unknown,
        refresh_client=options.refresh_client,
    )


def _planned_resources(
    required: Mapping[str, Resource], state: State, client: ProviderClient, options: PlanOptions
) -> dict[str, Resource]:
    """Return the supporting resources as `prepare` will make them.

    The address of this machine is detected, and shown in the plan, if `prepare` would detect it.
    """
    planned = {}
    for name, resource in required.items():
        recorded = state.resources.get(name)
        known = {} if recorded is None else recorded.detail
        detail = {**known, **resource.detail}
        is_new = recorded is None or recorded.id is None
        if (
            ME in detail.get("allow_from", ())
            and (is_new or "me" not in detail)
            and options.mode is Mode.NORMAL
            and options.refresh
        ):
            detail["me"] = client.own_network()
        planned[name] = Resource(
            kind=resource.kind, id=None if recorded is None else recorded.id, detail=detail
        )
    return planned


def _lifetime_notes(
    made: Plan, desired_state: DesiredState, client: ProviderClient
) -> tuple[Diagnostic, ...]:
    """Return a note if the plan launches VMs that nothing but `destroy` terminates."""
    scheduler = desired_state.scheduler
    launches = any(
        change.kind == "node" and change.action in (Action.CREATE, Action.REPLACE)
        for change in made.changes
    )
    is_limited = scheduler.lifetimes.is_limited or scheduler.ttl is not None
    if not client.costs_money or not launches or is_limited:
        return ()
    return (
        note(
            "nothing terminates this cluster but `planapply destroy`",
            "To terminate an idle or a forgotten cluster, set `idle_timeout`, `no_client_timeout`, or `ttl` "
            "under [cluster].",
        ),
    )


def blank_state(workspace: Workspace) -> State:
    """Return the state before the first apply, which has no lineage."""
    assert workspace.spec is not None
    return State(
        lineage="", cluster=workspace.spec.cluster.name, provider=workspace.spec.cluster.provider
    )


def new_lineage() -> str:
    """Return a lineage for a new cluster."""
    return str(uuid.uuid4())


def check_same_cluster(desired_state: DesiredState, state: State | None, plugin: Plugin) -> None:
    """Raise PlanapplyError if the spec has another name, or settings that cannot change."""
    if state is None or state.is_empty:
        return
    if state.cluster != desired_state.cluster:
        raise PlanapplyError(
            f"the state belongs to cluster {state.cluster!r}, but the spec defines "
            f"{desired_state.cluster!r}",
            "A cluster cannot be renamed. Use another state for this spec (`state` under [cluster], "
            "or --state), or destroy the other cluster first.",
        )
    for name, setting in plugin.settings.model_fields.items():
        extra = setting.json_schema_extra
        old, new = state.settings.get(name), desired_state.settings.get(name)
        # `check_cloud` has compared the settings that are part of the cloud's identity.
        refused = isinstance(extra, dict) and extra.get("effect") == "refusal"
        if refused and old != new and name not in state.cloud:
            raise PlanapplyError(
                f"cannot change `{name}` under [provider] while the cluster exists: "
                f"{json.dumps(old)} -> {json.dumps(new)}",
                "Restore the old value, or destroy the cluster first.",
            )


def _refresh(
    workspace: Workspace, client: ProviderClient, state: State, options: PlanOptions
) -> RefreshResult:
    if not options.refresh or not state.lineage:
        return refresh(state, None, 0.0, 0.0)
    return explain_ends(client, refresh_state(workspace, client, state, resources=True))


def _as_warnings(error: PlanapplyError) -> Iterator[Diagnostic]:
    return (warning(found.summary, found.detail) for found in error.diagnostics)
