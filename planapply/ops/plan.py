"""plan: spec file -> spec -> (state, observed) -> diff -> plan."""

import json
import uuid
from dataclasses import dataclass

from planapply.diff import Options, Refreshed, destroy_plan, make_plan, refresh
from planapply.model.desired import Desired
from planapply.model.diagnostics import Diagnostic, PlanapplyError, warning
from planapply.model.node import TAG_CLUSTER
from planapply.model.plan import Plan
from planapply.model.state import Resource, State
from planapply.ops.cost import priced
from planapply.ops.preflight import check
from planapply.ops.resolve import pinned
from planapply.ops.workspace import Workspace, asking
from planapply.provider import Notes, Plugin, Prepares, Provider, Retags


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
class Planned:
    """A plan and what it was made from."""

    plan: Plan
    refreshed: Refreshed
    provider: Provider
    resources: dict[str, Resource]
    """What the provider needs beside VMs."""


def plan(workspace: Workspace, options: PlanOptions = PlanOptions()) -> Planned:
    """What apply would do now; changes nothing, needs no lock.

    Raises PlanapplyError for whatever the user can mend.
    """
    return plan_from(workspace, workspace.store.read(), options)


def plan_from(workspace: Workspace, state: State | None, options: PlanOptions) -> Planned:
    """As `plan`, from a state that the caller has read."""
    provider = workspace.connect(state)
    known = state or blank_state(workspace)
    refreshed = _refresh(workspace, provider, known, options)
    if options.destroy:
        protect = workspace.spec.cluster.protect if workspace.spec else workspace.protect
        made = destroy_plan(refreshed, options.targets, protect=protect)
        return Planned(priced(made, refreshed.state, provider, None), refreshed, provider, {})
    assert workspace.spec is not None
    plugin = workspace.plugin(state)
    want, pins = pinned(workspace, plugin, provider, workspace.spec, known)
    check_same_cluster(want, state, plugin)
    resources = (
        provider.wanted(want.cluster, want.scheduler) if isinstance(provider, Prepares) else {}
    )
    made = make_plan(
        want,
        refreshed,
        Options(options.targets, options.replace, isinstance(provider, Retags), resources),
    )
    if options.refresh_only:
        made = made.model_copy(update={"changes": (), "refresh_only": True, **_drift(made)})
    elif options.refresh:
        check(workspace, made, provider)
    made = priced(made, refreshed.state, provider, want.max_cost)
    notes = (
        *workspace.diagnostics,
        *(_lost_state(workspace, provider) if state is None and options.refresh else ()),
        *_of_provider(provider, want),
        *made.diagnostics,
    )
    return Planned(
        made.model_copy(
            update={"diagnostics": notes, "pins": pins, "overrides": tuple(workspace.overrides)}
        ),
        refreshed,
        provider,
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


def check_same_cluster(want: Desired, state: State | None, plugin: Plugin) -> None:
    """A state belongs to one cluster, by name, and some settings can't change while it exists."""
    if state is None or state.is_empty:
        return
    if state.cluster != want.cluster:
        raise PlanapplyError(
            f"the state is of cluster {state.cluster!r}, and the spec is of {want.cluster!r}",
            "A cluster can't be renamed. Give this spec a state of its own (`state` under "
            "[cluster], or --state), or destroy the other cluster first.",
        )
    for name, setting in plugin.settings.model_fields.items():
        extra = setting.json_schema_extra
        old, new = state.settings.get(name), want.settings.get(name)
        # What the cloud's identity tells, `check_cloud` has compared.
        refused = isinstance(extra, dict) and extra.get("effect") == "refusal"
        if refused and old != new and name not in state.cloud:
            raise PlanapplyError(
                f"`{name}` under [provider] can't change while the cluster exists: "
                f"{json.dumps(old)} -> {json.dumps(new)}",
                "Put it back, or destroy the cluster first.",
            )


def _refresh(
    workspace: Workspace, provider: Provider, state: State, options: PlanOptions
) -> Refreshed:
    if not options.refresh or not state.lineage:
        return refresh(state, None, 0.0, 0.0)
    vms = workspace.find(provider, state)
    return refresh(state, vms, workspace.clock.time(), provider.limits.settle)


def _of_provider(provider: Provider, want: Desired) -> tuple[Diagnostic, ...]:
    """What the provider has to say of what is wanted."""
    if not isinstance(provider, Notes):
        return ()
    configs = [want.scheduler, *(group.config for group in want.groups)]
    return tuple(asking(lambda: provider.notes(configs)))


def _lost_state(workspace: Workspace, provider: Provider) -> tuple[Diagnostic, ...]:
    """A warning where VMs carry this cluster's name, although there is no state."""
    assert workspace.spec is not None
    name = workspace.spec.cluster.name
    vms = asking(lambda: workspace.patience.call(lambda: provider.find({TAG_CLUSTER: name})))
    if not vms:
        return ()
    who = "a VM already belongs" if len(vms) == 1 else f"{len(vms)} VMs already belong"
    return (
        warning(
            f"there is no state, and {who} to a cluster named {name!r}",
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
