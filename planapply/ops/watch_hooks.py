"""The hooks of `watch`: after each round, a lost node, what was done, and each new problem."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from planapply.fleet import Listener
from planapply.model.diagnostics import PlanapplyError, Severity
from planapply.model.event import Event
from planapply.model.plan import Change
from planapply.model.state import State
from planapply.model.watch import Round
from planapply.ops.hooks import HookEvent, HookName, error_items, run_hook
from planapply.ops.watch import Problem, View
from planapply.ops.workspace import Workspace
from planapply.store import StateLocked


@dataclass
class HookRunner:
    """A `View` that passes everything on to another one, and runs the hooks of the workspace.

    Each lost VM and each problem has one event, however many rounds find it. `stop_on_signal` is as in
    `Watch`; `on_hook` gets the events about hooks.
    """

    workspace: Workspace
    view: View
    stop_on_signal: Callable[[], AbstractContextManager[object]]
    on_hook: Listener
    _cluster: str = ""
    _lost: frozenset[tuple[str, str | None]] = frozenset()
    """The lost nodes of the last round, with their VMs."""
    _round: Round = field(default_factory=Round)
    _problems: list[Problem] = field(default_factory=list)
    """Reported problems that are not solved."""

    def on_event(self, event: Event) -> None:
        """Pass the event on."""
        self.view.on_event(event)

    def show_note(self, event: Event) -> None:
        """Pass the event on."""
        self.view.show_note(event)

    def show_start(self, state: State) -> None:
        """Keep the cluster's name."""
        self._cluster = state.cluster
        self.view.show_start(state)

    def show_round(self, result: Round, seconds: float) -> None:
        """Run the hooks for what a round found and did."""
        self.view.show_round(result, seconds)
        self._round = result
        lost = frozenset(map(_key, result.lost))
        new = [change.name for change in result.lost if _key(change) not in self._lost]
        self._lost = lost
        if new:
            self._run("on_node_lost", new)
        removed = [*result.removed, *result.strays]
        if (result.launched or removed) and not result.is_incomplete:
            counts = {"added": len(result.launched), "destroyed": len(removed)}
            nodes = dict.fromkeys([*result.launched, *result.removed])
            self._run("on_applied", [*nodes], counts)

    def show_failed_round(self, error: Problem, seconds: float) -> None:
        """Pass the error on; if it is new, `show_problem` is called, too."""
        self._round = Round()
        self.view.show_failed_round(error, seconds)

    def show_problem(self, error: Problem) -> None:
        """Run the hook for a new problem."""
        self.view.show_problem(error)
        self.report_failure(error)

    def show_solved(self, error: Problem) -> None:
        """Forget a problem that no longer exists."""
        self._problems = [problem for problem in self._problems if problem is not error]
        self.view.show_solved(error)

    def report_failure(self, error: Exception) -> None:
        """Run the hook for an error; not for a warning, a lock, or an error that was reported already.

        Another process holds a lock because it works on the cluster.
        """
        is_warning = isinstance(error, PlanapplyError) and all(
            diagnostic.severity is not Severity.ERROR for diagnostic in error.diagnostics
        )
        if is_warning or isinstance(error, StateLocked) or not self._cluster:
            return
        if not isinstance(error, PlanapplyError | OSError) or _code(error) in map(
            _code, self._problems
        ):
            return
        self._problems.append(error)
        failures = {
            name: found
            for name, found in self._round.failures.items()
            if _code(found) == _code(error)
        }
        nodes = [*failures] or [*self._round.given_up] * (_code(error) == "given_up")
        counts = {
            "added": len(self._round.launched),
            "destroyed": len(self._round.removed) + len(self._round.strays),
        }
        errors = error_items(failures, [] if failures else [error])
        self._run("on_failed", nodes, counts, errors)

    def _run(
        self,
        name: HookName,
        nodes: Sequence[str],
        counts: Mapping[str, int] = {},
        errors: Sequence[Mapping[str, str | None]] = (),
    ) -> None:
        event = HookEvent(name, self._cluster, "watch", nodes, counts, errors)
        with self.stop_on_signal():
            run_hook(self.workspace, event, self.on_hook)


def _key(change: Change) -> tuple[str, str | None]:
    return change.name, change.vm


def _code(error: Problem) -> str:
    return error.diagnostics[0].code if isinstance(error, PlanapplyError) else "system_error"
