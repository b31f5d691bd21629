"""Warnings about results in the memory of the workers that a plan would lose."""

from planapply.diff import RefreshResult
from planapply.model.diagnostics import Diagnostic, warning
from planapply.model.endpoint import current_endpoint
from planapply.model.names import SCHEDULER
from planapply.model.plan import Action, Plan
from planapply.model.quantities import format_bytes
from planapply.model.state import State


def data_loss_warnings(
    plan: Plan, refreshed: RefreshResult, *, ask: bool = True
) -> tuple[Diagnostic, ...]:
    """Return a warning if the plan terminates every worker that exists, and so the results they hold.

    With `ask`, ask the scheduler whether there are any; it may take a few seconds to answer. A plan that
    destroys the scheduler gives no warning: nothing else can be expected of it.
    """
    actions = {change.name: change.action for change in plan.changes if change.kind == "node"}
    existing = refreshed.state.nodes.keys() - refreshed.gone
    workers = existing - {SCHEDULER}
    leaving = {name for name in workers if actions.get(name) in (Action.DESTROY, Action.REPLACE)}
    if (
        not leaving
        or leaving != workers
        or SCHEDULER not in existing
        or actions.get(SCHEDULER) is Action.DESTROY
    ):
        return ()
    size = _results_size(refreshed.state) if ask else None
    if size == 0:
        return ()
    results = "the results" if size is None else f"{format_bytes(size)} of results"
    unknown = "planapply cannot tell whether there are any: " + (
        "the scheduler does not answer. " if ask else "--no-refresh does not ask the scheduler. "
    )
    return (
        warning(
            f"this plan terminates every worker: {results} in their memory will be lost",
            ("" if size else unknown)
            + "To keep them, save them first; or change the cluster in several steps in which some "
            "workers stay, with --target.",
        ),
    )


def _results_size(state: State) -> int | None:
    endpoint = current_endpoint(state)
    if endpoint is None:
        return None
    from planapply.dask.scheduler import results_size  # imports asyncio

    return results_size(endpoint, state.tls)
