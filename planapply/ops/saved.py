"""Saved plans: a saved plan is made again from the spec and the state, and must be the same.

The file is not trusted: anyone who can write it could otherwise run code on the nodes. Only the fresh plan
is carried out. The file contributes its options, and its pins if the provider could have chosen them.
"""

import json
from collections.abc import Iterator
from typing import Any

from planapply.model.diagnostics import PlanapplyError
from planapply.model.names import format_names
from planapply.model.plan import Change, ChangeReason, Plan, PlanRequest
from planapply.model.state import Resource, State
from planapply.ops.plan import PlanOptions


class PlanRefused(PlanapplyError):
    """A saved plan is refused: `problem` says why, without the subject; the advice is that of the command line."""

    def __init__(self, problem: str, detail: str, code: str) -> None:
        self.problem = problem
        super().__init__(f"the plan file {problem}", detail, code=code)


def saved_options(saved_plan: Plan) -> list[PlanOptions]:
    """Return the options with which a saved plan is made again.

    A plan of an older version does not have its options: return those that it may have been made with.
    """
    requests = [saved_plan.request] if saved_plan.request else _infer_requests(saved_plan)
    return [
        PlanOptions(
            mode=saved_plan.mode,
            refresh=request.refresh,
            targets=request.targets,
            replace=request.replace,
            terminate_unknown=request.terminate_unknown,
            refresh_client=request.refresh_client,
            pins=saved_plan.pins,
        )
        for request in requests
    ]


def _infer_requests(saved_plan: Plan) -> list[PlanRequest]:
    nodes = [change for change in saved_plan.changes if change.kind == "node"]
    replaced = tuple(c.name for c in nodes if c.reason is ChangeReason.REPLACE_REQUESTED)
    names = tuple(change.name for change in nodes)
    whole = PlanRequest(replace=replaced)
    return [whole, PlanRequest(targets=names, replace=replaced)] if names else [whole]


def check_origin(saved_plan: Plan, state: State | None, spec_digest: str | None) -> None:
    """Raise PlanRefused unless a saved plan was made from this version of the state, and this spec."""
    lineage, serial = (state.lineage or None, state.serial) if state else (None, 0)
    # A plan without a lineage was made before there was a state, and is only stale.
    is_other = state is not None and state.lineage and saved_plan.cluster != state.cluster
    if is_other or saved_plan.lineage not in (None, lineage):
        raise other_cluster_error(saved_plan)
    if saved_plan.serial != serial:
        reason = f"the serial of the state was {saved_plan.serial}, and is now {serial}"
        raise _stale_error(saved_plan, reason)
    if saved_plan.spec_digest != spec_digest:
        raise _stale_error(saved_plan, "the spec has changed since the plan was made")


def other_cluster_error(saved_plan: Plan) -> PlanRefused:
    """Return the error for a saved plan that belongs to another spec or state."""
    return PlanRefused(
        f"was made for a different cluster ({saved_plan.cluster!r})",
        "Apply the plan with the spec and state that it was made from.",
        "plan_of_other_cluster",
    )


def _plan_again(saved_plan: Plan) -> str:
    """Return the advice to plan again, with the options of the saved plan."""
    request = saved_plan.request or PlanRequest()
    return f"To plan again: `{request.command('plan', saved_plan.mode, '--out', 'FILE')}`"


def _stale_error(saved_plan: Plan, reason: str) -> PlanRefused:
    return PlanRefused(f"is stale: {reason}", _plan_again(saved_plan), "plan_stale")


def changed_error(saved_plan: Plan, differences: list[str]) -> PlanRefused:
    """Return the error for a saved plan that is not the one that would be made now."""
    return PlanRefused(
        f"is not the plan that would be made now: {'; '.join(differences)}",
        "What exists has changed since the plan was made, or the file was edited.\n"
        + _plan_again(saved_plan),
        "plan_differs",
    )


def compare_plans(saved_plan: Plan, fresh: Plan) -> list[str]:
    """Return how a saved plan differs from the one that was made again; empty if it does not.

    Costs, warnings, drift, and this machine's address may differ: prices move, and a plan may be applied
    on another machine.
    """
    return list(_compare(saved_plan, fresh))


def _compare(saved_plan: Plan, fresh: Plan) -> Iterator[str]:
    saved_changes, fresh_changes = (
        {(change.kind, change.name): _essence(change) for change in plan.changes}
        for plan in (saved_plan, fresh)
    )
    keys = saved_changes.keys() | fresh_changes.keys()
    changed = [name for kind, name in keys if _differs(saved_changes, fresh_changes, (kind, name))]
    if changed:
        yield f"other changes of {format_names(changed)}"
    used = {change.after for change in fresh.changes if change.after is not None}
    groups = {
        fresh.configs[digest].group
        for digest in used & saved_plan.configs.keys()
        if _to_json(saved_plan.configs[digest]) != _to_json(fresh.configs[digest])
    }
    if groups:
        yield f"another configuration of {', '.join(sorted(groups))}"
    for key in ("provider", "cloud", "settings", "security", "join_timeout", "tags", "protect"):
        if _to_json(getattr(saved_plan, key)) != _to_json(getattr(fresh, key)):
            yield f"another `{key}`"
    if saved_plan.next_index != fresh.next_index:
        yield "other numbers for new nodes"
    if saved_plan.resources is not None and _without_me(saved_plan) != _without_me(fresh):
        yield "other networks, ports, or tags of supporting resources"


def _essence(change: Change) -> tuple[Any, ...]:
    """Return what a change does, without the reason."""
    return change.action, change.before, change.after, change.vm


def _differs(one: dict[Any, Any], two: dict[Any, Any], key: Any) -> bool:
    return bool(one.get(key) != two.get(key))


def _without_me(plan: Plan) -> dict[str, str]:
    def strip(resource: Resource) -> Resource:
        detail = {key: value for key, value in resource.detail.items() if key != "me"}
        return resource.model_copy(update={"detail": detail})

    return {name: _to_json(strip(resource)) for name, resource in (plan.resources or {}).items()}


def _to_json(value: Any) -> str:
    """Return a value as JSON; unlike the values, tuples equal lists in it, and nan equals nan."""
    document = value.model_dump(mode="json") if hasattr(value, "model_dump") else value
    return json.dumps(document, sort_keys=True)
