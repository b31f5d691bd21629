"""resize: the plan that gives elastic groups another number of nodes, by the spec that was applied last."""

from collections.abc import Mapping

from planapply.diff import create_resize_plan, is_current
from planapply.model.desired import DesiredState
from planapply.model.diagnostics import PlanapplyError
from planapply.model.names import SCHEDULER
from planapply.model.plan import PlanRequest
from planapply.model.spec import Spec
from planapply.model.state import State
from planapply.ops.cost import CostLimits, add_cost
from planapply.ops.data_loss import data_loss_warnings
from planapply.ops.end_reasons import explain_ends
from planapply.ops.plan import PlanResult, check_same_cluster
from planapply.ops.preflight import check_plan, check_settings
from planapply.ops.refresh import refresh_state
from planapply.ops.resolve import resolve_spec
from planapply.ops.workspace import Workspace


def resize_plan(workspace: Workspace, sizes: Mapping[str, int]) -> PlanResult:
    """Return the plan that gives the elastic groups these numbers of nodes.

    Raises PlanapplyError for a group that cannot have its number, and if the plan is known to fail.
    """
    state = workspace.read()
    workspace.follow(state)
    check_sizes(workspace.spec, state, sizes)
    assert workspace.spec is not None
    client, plugin = workspace.connect(state), workspace.plugin(state)
    refreshed = explain_ends(client, refresh_state(workspace, client, state, resources=True))
    desired_state, pins = resolve_spec(plugin, client, workspace.spec, refreshed.state)
    check_same_cluster(desired_state, state, plugin)
    if SCHEDULER in refreshed.gone.union(refreshed.lost):
        problem = "no longer exists" if SCHEDULER in refreshed.gone else "has stopped"
        raise PlanapplyError(
            f"cannot scale cluster {state.cluster!r}: the VM of its scheduler {problem}",
            "Run `planapply apply` to create it again.",
        )
    check_scheduler(desired_state, refreshed.state)
    resources = client.required_resources(desired_state.cluster, desired_state.scheduler)
    made = create_resize_plan(desired_state, refreshed, sizes, resources)
    check_plan(made, client)
    made = add_cost(made, refreshed, client, CostLimits.of(desired_state))
    notes = (
        *check_settings(made, client),
        *made.diagnostics,
        *data_loss_warnings(made.changes, made.waves, refreshed),
    )
    request = PlanRequest(sizes=dict(sizes))
    made = made.model_copy(update={"diagnostics": notes, "pins": pins, "request": request})
    return PlanResult(made, refreshed, client, dict(resources), max_cost=desired_state.max_cost)


def check_sizes(spec: Spec | None, state: State, sizes: Mapping[str, int]) -> None:
    """Raise PlanapplyError unless each name is an elastic group that can have this number of nodes."""
    if state.scheduler is None:
        raise PlanapplyError(
            f"cannot scale cluster {state.cluster!r}: it has no scheduler",
            "Run `planapply apply` to create it.",
        )
    if spec is None:
        raise PlanapplyError(
            f"cannot scale cluster {state.cluster!r}: the state does not record the spec that was applied last",
            "Run `planapply apply`, which records it.",
        )
    for name, size in sizes.items():
        group = spec.workers.get(name)
        if group is None:
            groups = ", ".join(spec.workers) or "none"
            raise PlanapplyError(
                f"cannot scale {name!r}: there is no such group",
                f"Groups of the spec that was applied last: {groups}.",
            )
        if group.max is None:
            raise PlanapplyError(
                f"cannot scale {name!r}: the group has a `count`",
                f"Change `count` under [workers.{name}] and run `planapply apply`; or give the group a "
                "`min` and `max` in place of `count`.",
            )
        least, most = group.min or 0, group.max
        if not least <= size <= most:
            raise PlanapplyError(
                f"cannot scale {name!r} to {size} nodes: the spec sets min = {least}, max = {most}",
                f"Choose a number in this range; or change it under [workers.{name}], run "
                "`planapply apply`, and scale again.",
            )


def check_scheduler(desired_state: DesiredState, state: State) -> None:
    """Raise PlanapplyError if the next apply would replace the scheduler, and with it new nodes."""
    if state.scheduler is None or not is_current(
        state.scheduler, desired_state.scheduler, state.configs
    ):
        raise PlanapplyError(
            "cannot scale: the spec of the scheduler has changed since it was applied",
            "The next apply would replace new nodes. Run `planapply apply` first.",
        )
