"""apply and destroy, as seen from the terminal: plan, question, progress, summary."""

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from planapply.cli import terminal
from planapply.cli.open_workspace import can_ask, finished_by
from planapply.cli.plan import show_plan
from planapply.cli.progress import Display
from planapply.cli.signals import Interrupted, asked_to_stop, gracefully, leave
from planapply.fleet import Abandoned, Stopped
from planapply.model.diagnostics import Diagnostic, PlanapplyError
from planapply.model.event import Event
from planapply.model.names import sort_key, to_ranges
from planapply.model.plan import Plan
from planapply.model.state import State
from planapply.ops.apply import ApplyOptions, Report, apply
from planapply.ops.output import outputs
from planapply.ops.plan import PlanOptions
from planapply.ops.workspace import Workspace
from planapply.render.document import diagnostics_document
from planapply.render.failures import failure_diagnostics
from planapply.render.text import BLANK, Line, columns, line, wrap
from planapply.store import tlsfiles


@dataclass
class Carrying:
    """One apply or destroy."""

    workspace: Workspace
    options: PlanOptions
    how: ApplyOptions
    auto_approve: bool
    json: bool
    saved: Plan | None = None
    _plan: Plan | None = None
    _ended: bool = False
    _signals: ExitStack = field(default_factory=ExitStack)

    def run(self) -> int:
        """Gives the exit code."""
        clock = self.workspace.clock
        self._display = Display(json=self.json, wait=self.how.wait, now=clock.monotonic)
        try:
            with self._signals, self._display:
                report = apply(
                    self.workspace,
                    self._confirm,
                    self.options,
                    self.how,
                    saved=self.saved,
                    tell=self._display.tell,
                )
            return self._done(report) if report.confirmed else self._cancelled()
        except Stopped as stopped:
            code = self._stopped(stopped.diagnostics)
            if isinstance(stopped, Abandoned):
                leave(code)  # the calls that hang would be waited for
            return code
        except Interrupted as interrupted:
            self._end(finished_by(interrupted, self._counts()))
            raise
        except Exception as error:
            if isinstance(error, PlanapplyError) and asked_to_stop() is not None:
                return self._stopped(error.diagnostics)
            self._end(finished_by(error, self._counts()))
            if any(self._counts().values()):
                terminal.tell(
                    "", f"{self._verb} failed; before that: {_told(self._verb, self._counts())}."
                )
            raise

    @property
    def _verb(self) -> str:
        destroys = self._plan is not None and self._plan.spec_digest is None
        return "Destroy" if destroys else "Apply"

    def _confirm(self, plan: Plan) -> bool:
        """Show the plan, ask if need be, and from then on take signals for a wish to stop."""
        self._plan = plan
        if not self.json:
            show_plan(plan)
        if plan.changes and not (self.auto_approve or self.saved):
            if self.json or not can_ask():
                raise PlanapplyError(
                    "there is nobody to ask whether to do this",
                    "Say --auto-approve; or save a plan (planapply plan --out FILE), read it, and "
                    "apply that: planapply apply FILE",
                )
            if not _ask():
                return False
        if plan.changes:
            self._display.begin(plan)
        self._signals.enter_context(gracefully(self._stop))
        return True

    def _cancelled(self) -> int:
        terminal.tell(f"{self._verb} cancelled; nothing was changed.")
        return 1

    def _stop(self) -> None:
        self.workspace.clock.stop()
        self.workspace.store.hurry()
        self._display.stopping()

    def _stopped(self, problems: Sequence[Diagnostic]) -> int:
        told = {"diagnostics": diagnostics_document(problems)} if problems else {}
        self._finish("stopped", **self._counts(), **told)
        recorded = " This is recorded; the next apply or destroy goes on from there."
        terminal.tell(
            "",
            f"{self._verb} stopped: {_told(self._verb, self._counts())}."
            + ("" if problems else recorded),
        )
        terminal.report(problems)
        return asked_to_stop() or 130

    def _done(self, report: Report) -> int:
        state = self.workspace.store.read()
        if state is not None and state.tls is None and state.lineage:
            tlsfiles.remove(state.lineage)
        values = outputs(state) if state is not None and state.endpoint is not None else {}
        if report.failures:
            failures = failure_diagnostics(report.failures)
            numbers = self._counts(report.failures)
            self._finish("incomplete", **numbers, diagnostics=diagnostics_document(failures))
            terminal.tell("")
            terminal.report(failures)
        else:
            counts = report.plan.summary
            keys = {"added": "add", "changed": "change", "destroyed": "destroy"}
            numbers = {key: counts[of] for key, of in keys.items()}
            self._finish("complete", **numbers, outputs=values)
        if report.plan.refresh_only and not self.json:
            terminal.show(
                [BLANK, line(("Apply complete:", "bold green"), " the state is up to date.")]
            )
        elif (report.plan.changes or self._display.progress.nodes) and not self.json:
            launched = [] if state is None else _launched(state, report.failures)
            terminal.show([BLANK, *self._summary(report, numbers, launched), *_outputs(values)])
        return 1 if report.failures else 0

    def _summary(
        self, report: Report, numbers: Mapping[str, int], launched: Collection[str]
    ) -> Iterator[Line]:
        verb, failed = self._verb, report.failures
        if not failed:
            yield line((f"{verb} complete:", "bold green"), f" {_told(verb, numbers)}.")
            return
        yield line((f"{verb} incomplete:", "bold red"), f" {_told(verb, numbers)}.")
        for text in _missing(verb, failed, launched):
            yield from (line(part) for part in wrap(text, terminal.width(sys.stdout)))

    def _counts(self, failed: Collection[str] = ()) -> dict[str, int]:
        """What was really done, where that is less than the plan."""
        added, changed, destroyed = self._display.progress.counts(failed)
        return {"added": added, "changed": changed, "destroyed": destroyed}

    def _finish(self, outcome: str, **data: Any) -> None:
        self._end(Event(event="finished", data={"outcome": outcome, **data}))

    def _end(self, last: Event) -> None:
        if self.json and not self._ended:
            self._display.tell(last)
        self._ended = True


def _missing(verb: str, failed: Collection[str], launched: Collection[str]) -> Iterator[str]:
    """What is missing, and how to get it; a VM that has not joined costs money all the same."""
    undone = [name for name in failed if name not in launched]
    if undone:
        yield f"Not done: {_names(undone)}. The next {verb.lower()} does the rest."
    if launched:
        yield (
            f"Launched, but not joined: {_names(launched)}. `planapply status` shows which of these "
            "VMs run, `planapply logs NODE` what one has printed. The next apply replaces those that "
            "have ended, `planapply apply --replace NODE` any other."
        )


def _launched(state: State, failed: Collection[str]) -> list[str]:
    """Those that failed although there is a VM."""
    return [n for n in failed if n in state.nodes and state.nodes[n].status == "launched"]


def _names(names: Collection[str]) -> str:
    return " ".join(to_ranges(sorted(names, key=sort_key)))


def _told(verb: str, numbers: Mapping[str, int]) -> str:
    shown = {"destroyed": numbers["destroyed"]} if verb == "Destroy" else numbers
    return ", ".join(f"{number} {what}" for what, number in shown.items())


def _outputs(values: Mapping[str, str | None]) -> list[Line]:
    rows = [
        [key, f"= {values[key]}"]
        for key in ("scheduler_address", "dashboard_url")
        if values.get(key)
    ]
    return [BLANK, *(line("".join(row)) for row in columns(rows, gap=1))] if rows else []


def _ask() -> bool:
    terminal.tell("")
    sys.stderr.write("Do you want to perform these actions? Only 'yes' will be accepted: ")
    sys.stderr.flush()
    try:
        return sys.stdin.readline().strip() == "yes"
    except KeyboardInterrupt:
        terminal.tell("")  # what follows begins a line
        raise
