"""plan: spec file -> spec -> (state, observed) -> diff -> plan."""

import json
import uuid
from dataclasses import dataclass

from planapply.diff import DiffOptions, RefreshResult, create_destroy_plan, create_plan, refresh
from planapply.fleet import ProviderClient
from planapply.fleet.request import cluster_tags
from planapply.model.desired import DesiredState
from planapply.model.diagnostics import Diagnostic, PlanapplyError, warning
from planapply.model.node import TAG_CLUSTER
from planapply.model.plan import Plan
from planapply.model.state import Resource, State
from planapply.ops.cost import add_cost
from planapply.ops.preflight import check_plan
from planapply.ops.resolve import configs_of, resolve_spec
from planapply.ops.workspace import Workspace
from planapply.provider import Plugin


@dataclass(frozen=True)
class PlanOptions:
    """What the user asked of a plan."""

    destroy: bool = False
    refresh: bool = True
    """Whether to ask the provider what exists."""
    refresh_only: bool = False
    targets: tuple[str, ...] = ()
    replace: tuple[str, ...] = ()


@dataclass
class PlanResult:
    """A plan and what it was made from."""

    plan: Plan
    refreshed: RefreshResult
    client: ProviderClient
    resources: dict[str, Resource]
    """What the provider needs beside VMs."""


def plan(workspace: Workspace, options: PlanOptions = PlanOptions()) -> PlanResult:
    """What apply would do now; changes nothing, needs no lock.

    Raises PlanapplyError for whatever the user can mend.
    """
    return plan_from(workspace, workspace.store.read(), options)


def plan_from(workspace: Workspace, state: State | None, options: PlanOptions) -> PlanResult:
    """As `plan`, from a state that the caller has read."""
    client = workspace.connect(state)
    known = state or blank_state(workspace)
    refreshed = _refresh(workspace, client, known, options)
    if options.destroy:
        protect = workspace.spec.cluster.protect if workspace.spec else workspace.protect
        made = create_destroy_plan(refreshed, options.targets, protect=protect)
        return PlanResult(add_cost(made, refreshed.state, client, None), refreshed, client, {})
    assert workspace.spec is not None
    plugin = workspace.plugin(state)
    desired_state, pins = resolve_spec(plugin, client, workspace.spec, known)
    check_same_cluster(desired_state, state, plugin)
    resources = client.required_resources(desired_state.cluster, desired_state.scheduler)
    made = create_plan(
        desired_state,
        refreshed,
        DiffOptions(options.targets, options.replace, client.can_retag, resources),
    )
    if options.refresh_only:
        made = made.model_copy(update={"changes": (), "refresh_only": True, **_drift(made)})
    elif options.refresh:
        check_plan(made, client)
    made = add_cost(made, refreshed.state, client, desired_state.max_cost)
    notes = (
        *workspace.diagnostics,
        *(_lost_state_warnings(workspace, client) if state is None and options.refresh else ()),
        *client.notes(configs_of(desired_state)),
        *made.diagnostics,
    )
    return PlanResult(
        made.model_copy(
            update={"diagnostics": notes, "pins": pins, "overrides": tuple(workspace.overrides)}
        ),
        refreshed,
        client,
        dict(resources),
    )


def blank_state(workspace: Workspace) -> State:
    """What is known before the first apply; it has no lineage until then."""
    assert workspace.spec is not None
    return State(
        lineage="", cluster=workspace.spec.cluster.name, provider=workspace.spec.cluster.provider
    )


def new_lineage() -> str:
    """For life."""
    return str(uuid.uuid4())


def check_same_cluster(desired_state: DesiredState, state: State | None, plugin: Plugin) -> None:
    """A state belongs to one cluster, by name, and some settings can't change while it exists."""
    if state is None or state.is_empty:
        return
    if state.cluster != desired_state.cluster:
        raise PlanapplyError(
            f"the state is of cluster {state.cluster!r}, and the spec is of {desired_state.cluster!r}",
            "A cluster can't be renamed. Give this spec a state of its own (`state` under "
            "[cluster], or --state), or destroy the other cluster first.",
        )
    for name, setting in plugin.settings.model_fields.items():
        extra = setting.json_schema_extra
        old, new = state.settings.get(name), desired_state.settings.get(name)
        # What the cloud's identity tells, `check_cloud` has compared.
        refused = isinstance(extra, dict) and extra.get("effect") == "refusal"
        if refused and old != new and name not in state.cloud:
            raise PlanapplyError(
                f"`{name}` under [provider] can't change while the cluster exists: "
                f"{json.dumps(old)} -> {json.dumps(new)}",
                "Put it back, or destroy the cluster first.",
            )


def _refresh(
    workspace: Workspace, client: ProviderClient, state: State, options: PlanOptions
) -> RefreshResult:
    if not options.refresh or not state.lineage:
        return refresh(state, None, 0.0, 0.0)
    vms = client.find(cluster_tags(state))
    return refresh(state, vms, workspace.clock.time(), client.limits.consistency_delay)


def _lost_state_warnings(workspace: Workspace, client: ProviderClient) -> tuple[Diagnostic, ...]:
    """A warning where VMs carry this cluster's name, although there is no state."""
    assert workspace.spec is not None
    name = workspace.spec.cluster.name
    vms = client.find({TAG_CLUSTER: name})
    if not vms:
        return ()
    subject = "a VM already belongs" if len(vms) == 1 else f"{len(vms)} VMs already belong"
    return (
        warning(
            f"there is no state, and {subject} to a cluster named {name!r}",
            "If it is this one and its state is lost, run `planapply recover` before you apply; "
            "`planapply list` shows them.",
        ),
    )


def _drift(made: Plan) -> dict[str, object]:
    notes = tuple(
        warning(f"{change.name}: {change.reason}", "")
        for change in made.changes
        if "gone" in change.reason
    )
    return {"diagnostics": (*made.diagnostics, *notes)}
