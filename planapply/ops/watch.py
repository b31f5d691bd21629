"""watch: rounds until the cluster has ended, with back-off while something is wrong."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from planapply.fleet import ProviderFailed
from planapply.model.diagnostics import PlanapplyError
from planapply.model.event import Event
from planapply.model.names import split_name
from planapply.model.state import State
from planapply.model.watch import Round
from planapply.ops.cluster_end import CannotWatch, SchedulerLost
from planapply.ops.heal import Healer
from planapply.ops.recorded_spec import recorded_spec
from planapply.ops.workspace import Workspace
from planapply.provider import ErrorKind
from planapply.store import StateError, StateLocked, StateUnreadable

MAX_DELAY = 300.0
"""Seconds between two attempts, at most, while something is wrong; or the interval, if it is longer."""
END_TIMEOUT = 300.0
"""Seconds in which the workers of a cluster whose scheduler has ended must end, too."""
Problem = PlanapplyError | OSError


class View(Protocol):
    """The receiver of what `watch` reports."""

    def on_event(self, event: Event) -> None:
        """Report an event of a round."""

    def show_note(self, event: Event) -> None:
        """Report an event of a round that people should read, too."""

    def show_start(self, state: State) -> None:
        """Report that the watch of a cluster begins."""

    def show_round(self, result: Round, seconds: float) -> None:
        """Report the result of a round."""

    def show_failed_round(self, error: Problem, seconds: float) -> None:
        """Report a round that an error ended."""

    def show_problem(self, error: Problem) -> None:
        """Report a problem that did not exist in the last round."""

    def show_solved(self, error: Problem) -> None:
        """Report that a problem no longer exists."""


@dataclass
class _Backoff:
    until: float
    delay: float


@dataclass
class Watch:
    """One `watch`; `interval` is the time in seconds between two rounds.

    `stop_on_signal` returns a context in which a signal stops the clock instead of ending the process.
    With `once`, run one round, wait until the launched nodes have joined, and raise its errors.
    """

    workspace: Workspace
    view: View
    stop_on_signal: Callable[[], AbstractContextManager[object]]
    interval: float = 30.0
    once: bool = False
    lock_timeout: float = 0.0
    _problems: dict[str, Problem] = field(default_factory=dict)
    _paused: dict[str, _Backoff] = field(default_factory=dict)
    _failed_rounds: int = 0
    _waits_for: str = ""
    """The kind of the lock that another process of this machine held in the last round."""
    _lost_since: float | None = None

    def run(self) -> Round:
        """Run rounds until the cluster has ended; return the last one.

        Raises PlanapplyError if watching makes no sense any longer, and Stopped.
        """
        state = self.workspace.read()
        self.view.show_start(state)
        spec = recorded_spec(state)
        if spec is not None and not (
            self.once or any(g.count or g.min or g.adapt for g in spec.workers.values())
        ):
            self.view.show_note(
                Event(
                    event="note",
                    message="no group has a `count`, a `min` above 0, or `adapt`: lost nodes are removed, and none is "
                    "launched",
                )
            )
        healer = Healer(
            self.workspace,
            self.stop_on_signal,
            on_event=self.view.on_event,
            on_note=self.view.show_note,
            wait=self.once,
            lock_timeout=self.lock_timeout,
        )
        try:
            return self._run_rounds(healer)
        finally:
            healer.close()

    def _run_rounds(self, healer: Healer) -> Round:
        clock = self.workspace.clock
        while True:
            start = clock.monotonic()
            healer.paused = frozenset(
                group for group, backoff in self._paused.items() if backoff.until > start
            )
            try:
                result = healer.run_round()
            except SchedulerLost as error:
                if self.once or not error.may_end or self._has_waited_for_end():
                    raise
                self.view.show_failed_round(error, clock.monotonic() - start)
                self._update({**self._problems, "scheduler_lost": error})
                delay = min(self.interval, 10.0)
            except (CannotWatch, StateUnreadable):
                raise
            except (PlanapplyError, OSError) as error:
                if self.once:
                    raise
                self.view.show_failed_round(error, clock.monotonic() - start)
                delay = self._back_off(error)
            else:
                self._failed_rounds, self._lost_since, self._waits_for = 0, None, ""
                self.view.show_round(result, clock.monotonic() - start)
                self._pause_groups(result)
                if result.end:
                    return result
                self._update(self._remaining(result))
                if self.once:
                    return result
                delay = self.interval
            clock.sleep(delay)

    def _has_waited_for_end(self) -> bool:
        now = self.workspace.clock.monotonic()
        self._lost_since = now if self._lost_since is None else self._lost_since
        return now - self._lost_since >= END_TIMEOUT

    def _back_off(self, error: Problem) -> float:
        """Report a failed round; return the seconds until the next one."""
        kind = _kind(error)
        if isinstance(error, StateLocked):
            self._report_lock(error)
            return self.interval
        self._update({**self._problems, kind: error})
        self._failed_rounds += 1
        return self._delay(self._failed_rounds)

    def _report_lock(self, error: StateLocked) -> None:
        """Report each round who holds the lock; as a problem only if it may be a process that has exited."""
        kind, holder = _kind(error), error.holder
        still = " still" if kind in self._problems or kind == self._waits_for else ""
        if still or holder.is_local:
            message = (
                f"for the lock of the state {error.location},{still} held by {holder.name}, "
                f"for {holder.purpose}"
            )
            self.view.show_note(Event(event="waiting", message=message))
        if holder.is_local and error.can_wait:
            self._waits_for = kind
            return
        if error.can_wait and not still:
            advice = f"Each round tries again; or {error.advice}"
            error = StateLocked(error.location, holder, advice, can_wait=False)
        self._update({**self._problems, kind: error})

    def _delay(self, failures: int) -> float:
        return min(self.interval * 2.0 ** min(failures - 1, 16), max(self.interval, MAX_DELAY))

    def _pause_groups(self, result: Round) -> None:
        """Launch nothing for a while in groups whose nodes could not be launched."""
        now = self.workspace.clock.monotonic()
        paused = {g: backoff for g, backoff in self._paused.items() if backoff.until > now}
        for group in {split_name(name)[0] for name in result.not_launched}:
            earlier = self._paused.get(group)
            delay = self._delay(1) if earlier is None else earlier.delay * 2
            delay = min(delay, max(self.interval, MAX_DELAY))
            paused[group] = _Backoff(now + delay, delay)
        self._paused = paused

    def _remaining(self, result: Round) -> dict[str, Problem]:
        """Return the problems after a round; those of a group that was not tried again remain."""
        paused = {
            key: error
            for key, error in self._problems.items()
            if ": " in key and key.partition(": ")[0] in self._paused
        }
        return {**paused, **result.problems_by_kind()}

    def _update(self, problems: Mapping[str, Problem]) -> None:
        """Report which problems are new, and which no longer exist."""
        for key, error in self._problems.items():
            if key not in problems:
                self.view.show_solved(error)
        for key, error in problems.items():
            if key not in self._problems:
                self.view.show_problem(error)
        self._problems = dict(problems)


def _kind(error: Problem) -> str:
    """Return the kind of an error that ends a round: each kind is reported once while it persists."""
    match error:
        case StateLocked():
            return f"locked by {error.holder.id}"
        case StateError():
            return "state"
        case ProviderFailed():
            return "credentials" if error.error.kind is ErrorKind.UNAUTHORIZED else "cloud"
        case PlanapplyError():
            return error.diagnostics[0].code
    return "system"
