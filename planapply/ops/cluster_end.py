"""The end of a cluster that is watched: it was lost, or it has terminated itself."""

from planapply.diff import RefreshResult
from planapply.diff.resize import loss_reason
from planapply.model.diagnostics import PlanapplyError
from planapply.model.end_reason import EndReason
from planapply.model.names import SCHEDULER
from planapply.model.plan import ChangeReason
from planapply.render.reasons import end_text


class CannotWatch(PlanapplyError):
    """A cluster that cannot be watched any longer; another round would change nothing."""

    code = "cannot_watch"


class SchedulerLost(CannotWatch):
    """A cluster without a scheduler; `may_end` says whether its workers may be about to terminate themselves."""

    code = "scheduler_lost"

    def __init__(self, summary: str, detail: str, *, may_end: bool = False) -> None:
        self.may_end = may_end
        super().__init__(summary, detail)


_LOST = (EndReason.RECLAIMED, EndReason.FAILED, EndReason.TERMINATED)
"""Ends of a scheduler that are a loss, and not the end of a cluster that has done its work."""


def has_terminated(refreshed: RefreshResult) -> bool:
    """Return whether no VM of the cluster runs any more, since it has terminated itself.

    A VM that the cloud keeps although it has powered off does not run.
    """
    state = refreshed.state
    ended = (ChangeReason.VM_GONE, ChangeReason.VM_STOPPED)
    return (
        not state.intents
        and all(loss_reason(name, refreshed) in ended for name in state.nodes)
        and scheduler_end(refreshed) not in _LOST
    )


def scheduler_end(refreshed: RefreshResult) -> EndReason:
    """Return why the scheduler's VM has ended."""
    return refreshed.ended.get(SCHEDULER, EndReason.UNKNOWN)


def end_suffix(refreshed: RefreshResult) -> str:
    """Return why the scheduler's VM has ended, in parentheses; empty if that is unknown."""
    reason = scheduler_end(refreshed)
    return "" if reason is EndReason.UNKNOWN else f" ({end_text(reason)})"


def check_scheduler(refreshed: RefreshResult) -> None:
    """Raise SchedulerLost if the cluster has no scheduler that workers can join."""
    state = refreshed.state
    name = f"cluster {state.cluster!r}"
    record = state.scheduler
    if record is None:
        raise SchedulerLost(
            f"cannot watch {name}: it has no scheduler", "Run `planapply apply` to create it."
        )
    reason = loss_reason(SCHEDULER, refreshed)
    if reason is ChangeReason.TERMINATION_IN_PROGRESS:
        raise SchedulerLost(
            f"cannot watch {name}: its scheduler is being terminated",
            "Run `planapply destroy` to finish, or `planapply apply` to create it again.",
        )
    if reason is not None:
        text = _TEXTS.get(reason, "is stopped")
        raise SchedulerLost(
            f"lost the scheduler of {name}: its VM {record.vm} {text}{end_suffix(refreshed)}",
            "`planapply watch` does not launch a scheduler. Run `planapply apply`, which replaces all "
            "nodes, or `planapply destroy`.",
            may_end=scheduler_end(refreshed) not in _LOST,
        )


_TEXTS = {
    ChangeReason.VM_GONE: "no longer exists",
    ChangeReason.VM_STOPPING: "is shutting down",
}
