"""The hooks of an apply, destroy, or scale: what runs when, and with what event."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from planapply.diff import RefreshResult
from planapply.fleet import Listener, Stopped
from planapply.model.diagnostics import PlanapplyError
from planapply.model.end_reason import EndReason
from planapply.model.names import SCHEDULER
from planapply.model.plan import Mode, Plan, PlanRequest
from planapply.ops.hooks import HookEvent, HookName, error_items, run_hook
from planapply.ops.plan import PlanResult
from planapply.ops.record import Recorder
from planapply.ops.workspace import Workspace

_EXPECTED_ENDS = (EndReason.IDLE, EndReason.NO_CLIENT, EndReason.SHUTDOWN, EndReason.TTL)
"""Ends of a VM that its user wanted, or that the spec asks for."""


@dataclass
class ApplyHooks:
    """The hooks of one apply."""

    workspace: Workspace
    command: str
    """The name of the command: apply, destroy, or scale."""
    on_event: Listener
    plan: Plan | None = None
    """The confirmed plan, once its changes begin."""
    recorder: Recorder | None = None
    failures: Mapping[str, PlanapplyError] = field(default_factory=dict)
    """Errors by node."""
    error: PlanapplyError | None = None
    """An error that no node has."""

    def begin(self, planned: PlanResult) -> None:
        """Run the hooks before the first change; raises PlanapplyError if there must be none."""
        plan = planned.plan
        nodes = [change.name for change in plan.changes if change.kind == "node"]
        if plan.mode is Mode.DESTROY:
            if plan.changes:
                self._run_before_destroy(plan, nodes)
        elif lost := _lost_nodes(planned.refreshed):
            self._run("on_node_lost", plan, lost)
        self.plan = plan

    def _run_before_destroy(self, plan: Plan, nodes: list[str]) -> None:
        if problem := self._run("before_destroy", plan, nodes, plan.summary):
            again = (plan.request or PlanRequest()).command("destroy", plan.mode, "--no-hooks")
            raise PlanapplyError(
                f"cannot destroy cluster {plan.cluster!r}: the hook before_destroy failed: {problem}",
                f"Nothing was changed. Fix the hook, or skip it: `{again}`",
                code="hook_failed",
            )

    def end(self, error: Exception | None) -> None:
        """Run the hook after the last change; `error` is what stopped the changes, if anything did."""
        plan = self.plan
        if plan is None or isinstance(error, Stopped):
            return
        errors = [found for found in (error, self.error) if found is not None]
        if errors or self.failures:
            done = {} if self.recorder is None else self.recorder.counts
            self._run("on_failed", plan, list(self.failures), done, errors)
        elif plan.changes and plan.mode is not Mode.DESTROY:
            nodes = [change.name for change in plan.changes if change.kind == "node"]
            self._run("on_applied", plan, nodes, plan.summary)

    def _run(
        self,
        name: HookName,
        plan: Plan,
        nodes: list[str],
        counts: Mapping[str, int] = {},
        errors: list[Exception] = [],  # noqa: B006 - not changed
    ) -> str:
        names = {"add": "added", "change": "changed", "destroy": "destroyed"}
        event = HookEvent(
            name,
            plan.cluster,
            self.command,
            nodes,
            {names.get(key, key): number for key, number in counts.items()},
            error_items(self.failures, errors),
        )
        return run_hook(self.workspace, event, self.on_event)


def _lost_nodes(refreshed: RefreshResult) -> list[str]:
    """Return the nodes whose VM was lost; none of a cluster that has terminated itself."""
    ended = refreshed.ended
    if ended.get(SCHEDULER) in _EXPECTED_ENDS:
        return []
    return [name for name in refreshed.lost if ended.get(name) not in _EXPECTED_ENDS]


@contextmanager
def run_apply_hooks(workspace: Workspace, command: str, on_event: Listener) -> Iterator[ApplyHooks]:
    """Run the last hook of the apply in this block when the block ends."""
    hooks = ApplyHooks(workspace, command, on_event)
    try:
        yield hooks
    except Exception as error:
        hooks.end(error)
        raise
    hooks.end(None)
