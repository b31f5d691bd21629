"""Warnings about the use of a cluster that a plan would end, and about results that it would lose."""

from collections.abc import Collection

from planapply.diff import RefreshResult, Waves, loses_results
from planapply.model.diagnostics import Diagnostic, warning
from planapply.model.endpoint import current_endpoint
from planapply.model.names import SCHEDULER
from planapply.model.plan import Action, Change
from planapply.model.quantities import format_bytes
from planapply.model.state import State
from planapply.model.status import ClusterUsage


def data_loss_warnings(
    changes: Collection[Change], waves: Waves, refreshed: RefreshResult, *, ask: bool = True
) -> tuple[Diagnostic, ...]:
    """Return a warning if the changes terminate the scheduler, or all workers at the same time.

    With `ask`, ask the scheduler what is in use; it may take a few seconds to answer. If it does not
    answer, changes that destroy it give no warning: nothing else can be expected of them.
    """
    if not loses_results(changes, waves, refreshed):
        return ()
    ends = {change.name: change.action for change in changes}.get(SCHEDULER)
    usage = _usage(refreshed.state) if ask else None
    if usage is not None:
        text = _format_usage(usage, is_ending=ends in (Action.REPLACE, Action.DESTROY))
        advice = (
            "To keep the results, save them first" if usage.results else "Wait until it is idle"
        )
        return (warning(f"in use: {text}", f"{advice}{_how_to_keep(ends)}."),) if text else ()
    if ends is Action.DESTROY or len(refreshed.state.nodes) < 2:
        return ()
    reason = "the scheduler does not answer" if ask else "--no-refresh does not ask the scheduler"
    return (
        warning(
            "this plan terminates every worker: the results in their memory will be lost",
            f"planapply cannot tell whether there are any: {reason}. To keep them, save them first"
            f"{_how_to_keep(ends)}.",
        ),
    )


def _how_to_keep(scheduler: Action | None) -> str:
    if scheduler in (Action.REPLACE, Action.DESTROY):
        return ""
    return "; or change the cluster in several steps in which some workers stay, with --target"


def _format_usage(usage: ClusterUsage, *, is_ending: bool) -> str:
    """Return what is in use; empty if nothing of it would be lost. Without the scheduler, `is_ending`, all is."""
    parts = [
        f"{number:,} {noun}{'s' * (number > 1)}"
        for number, noun in ((usage.clients, "client"), (usage.tasks, "task"))
        if number
    ]
    if usage.results:
        return ", ".join([*parts, f"{format_bytes(usage.results)} of results that will be lost"])
    if not is_ending:
        return ""
    return ", ".join(parts) + (" that will be lost" if usage.tasks else "")


def _usage(state: State) -> ClusterUsage | None:
    endpoint = current_endpoint(state)
    if endpoint is None:
        return None
    from planapply.dask.scheduler import cluster_usage  # imports asyncio

    return cluster_usage(endpoint, state.tls)
