"""The check that a plan with several waves can be carried out."""

from planapply.diff.waves import stops_running_node
from planapply.model.diagnostics import PlanapplyError
from planapply.model.endpoint import current_endpoint
from planapply.model.names import format_names, split_name
from planapply.model.plan import Plan
from planapply.model.state import State


def check_waves(plan: Plan, state: State, *, wait: bool) -> None:
    """Raise PlanapplyError if a plan has several waves, but nothing can tell when a wave has joined."""
    if len(plan.waves) < 2:
        return
    replaced = [change.name for change in plan.changes if stops_running_node(change)]
    problem = f"cannot replace {format_names(replaced)} in {len(plan.waves)} waves"
    tables = [f"[workers.{group}]" for group in dict.fromkeys(split_name(n)[0] for n in replaced)]
    at_once = (
        f'set `max_unavailable = "100%"` under {", ".join(tables)} to replace all nodes at once, without '
        "keeping the results in their memory."
    )
    if not wait:
        raise PlanapplyError(
            f"{problem} without waiting for them to join",
            f"Omit --no-wait (in Python, `wait=False`); or {at_once}",
            code="waves_need_wait",
        )
    endpoint = current_endpoint(state)
    from planapply.dask.scheduler import probe  # imports asyncio

    if endpoint is None or probe(endpoint, state.tls) is None:
        raise PlanapplyError(
            f"{problem}: the scheduler does not answer",
            "planapply must see the nodes of each wave join. Check with `planapply status` that the "
            "scheduler is running, and run the command where its address can be reached; or "
            f"{at_once}",
            code="scheduler_unreachable",
        )
