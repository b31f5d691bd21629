"""The apply, destroy, and scale commands: plan, approval, progress, summary."""

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from planapply import terminal
from planapply.cli.open_workspace import finished_event, non_terminal
from planapply.cli.plan import show_plan
from planapply.cli.signals import Interrupted, exit_immediately, stop_exit_code, stop_on_signal
from planapply.display import Display
from planapply.fleet import Abandoned, Stopped
from planapply.followup import add_options
from planapply.model.diagnostics import Diagnostic, PlanapplyError
from planapply.model.event import Event
from planapply.model.names import format_names, to_hostlist
from planapply.model.plan import ChangeReason, Mode, Plan, PlanRequest
from planapply.model.state import State
from planapply.ops.apply import ApplyOptions, Report, apply, unknown_error
from planapply.ops.output import outputs
from planapply.ops.plan import PlanOptions
from planapply.ops.workspace import Workspace
from planapply.render.document import diagnostics_document, failed_document
from planapply.render.failures import failure_diagnostics
from planapply.render.text import BLANK_LINE, Line, align_columns, line, wrap
from planapply.render.values import format_duration


@dataclass
class ApplyRun:
    """One apply, destroy, or scale."""

    workspace: Workspace
    options: PlanOptions
    apply_options: ApplyOptions
    auto_approve: bool
    json: bool
    saved_plan: Plan | None = None
    _plan: Plan | None = None
    _has_finished: bool = False
    _signals: ExitStack = field(default_factory=ExitStack)

    def run(self) -> int:
        """Run the apply, and return the exit code."""
        clock = self.workspace.clock
        self._display = Display(json=self.json, wait=self.apply_options.wait, now=clock.monotonic)
        self.workspace.on_event = self._display.on_event
        try:
            with self._signals, self._display:
                report = apply(
                    self.workspace,
                    self._approve,
                    self.options,
                    self.apply_options,
                    saved_plan=self.saved_plan,
                    on_event=self._display.on_event,
                )
            code = self._report_result(report) if report.confirmed else self._report_cancelled()
            self._report_throttling()
            return code
        except Stopped as stopped:
            code = self._report_stopped(stopped.diagnostics)
            self._report_throttling()
            if isinstance(stopped, Abandoned):
                exit_immediately(code)  # a normal exit would wait for the calls that hang
            return code
        except Interrupted as interrupted:
            self._emit_last_event(finished_event(interrupted, self._counts()))
            raise
        except Exception as error:
            if isinstance(error, PlanapplyError) and stop_exit_code() is not None:
                return self._report_stopped(error.diagnostics)
            self._emit_last_event(finished_event(error, self._counts()))
            if any(self._counts().values()):
                terminal.print_message(
                    "",
                    f"{self._verb} failed. Until then: {_format_counts(self._verb, self._counts())}.",
                )
            self._report_throttling()
            raise

    @property
    def _verb(self) -> str:
        mode = self.options.mode if self._plan is None else self._plan.mode
        return {Mode.DESTROY: "Destroy", Mode.SCALE: "Scale"}.get(mode, "Apply")

    def _command(self, name: str, *more: str) -> str:
        """Return a command with the options that this plan was made with."""
        assert self._plan is not None
        request = self._plan.request or PlanRequest()
        return request.command(name, self._plan.mode, *more)

    def _approve(self, plan: Plan) -> bool:
        """Show the plan, and ask for approval if required; from then on a signal stops the apply."""
        self._plan = plan
        if not self.json:
            show_plan(plan)
        if plan.changes and not (self.auto_approve or self.saved_plan):
            if self.json or non_terminal():
                raise PlanapplyError(
                    "cannot ask for approval: "
                    + ("--json is given" if self.json else f"{non_terminal()} is not a terminal"),
                    self._approval_advice(),
                    code="approval_required",
                )
            if not _read_approval(self._verb):
                return False
        if plan.changes:
            self._display.start(plan)
        self._signals.enter_context(stop_on_signal(self._stop))
        return True

    def _approval_advice(self) -> str:
        if self._verb == "Scale":
            return "Pass --auto-approve."
        return (
            f"Pass --auto-approve; or save a plan with `{self._command('plan', '--out', 'FILE')}`, "
            "review it, and run `planapply apply FILE`."
        )

    def _report_cancelled(self) -> int:
        terminal.print_message(f"{self._verb} canceled; nothing was changed.")
        return 1

    def _stop(self) -> None:
        self.workspace.clock.stop()
        self.workspace.store.set_deadline()
        self._display.show_stopping()

    def _report_stopped(self, problems: Sequence[Diagnostic]) -> int:
        details = {"diagnostics": diagnostics_document(problems)} if problems else {}
        self._emit_finished("stopped", **self._counts(), **details)
        text = f"{self._verb} stopped: {_format_counts(self._verb, self._counts())}."
        if self._verb == "Destroy":
            command = self._command("destroy")
            text += f" Run `{command}` again to finish; an apply would launch the nodes again."
        elif self._verb == "Scale":
            text += f" Run `{self._command('scale')}` again to finish."
        elif not problems:
            text += " This is recorded; the next apply or destroy continues from there."
        terminal.print_message("", text)
        terminal.report(problems)
        return stop_exit_code() or 130

    def _report_result(self, report: Report) -> int:
        state = self.workspace.store.read()
        values = outputs(state) if state is not None and state.endpoint is not None else {}
        left = unknown_error(report.unknown, report.plan.cluster)
        if report.failures or left:
            failures = failure_diagnostics(report.failures)
            failures = [*failures, *(left.diagnostics if left else ()), *report.warnings]
            launched = [] if state is None else _launched_failures(state, report.failures)
            numbers = self._counts()
            self._emit_finished(
                "incomplete",
                **numbers,
                failed=failed_document(report.failures, launched),
                diagnostics=diagnostics_document(failures),
            )
            terminal.print_message("")
            terminal.report(failures)
        else:
            numbers = self._display.progress.counts(report.plan)
            launched = []
            details = {"diagnostics": diagnostics_document(report.warnings)}
            self._emit_finished(
                "complete", **numbers, outputs=values, **(details if report.warnings else {})
            )
        if report.plan.mode is Mode.REFRESH_ONLY and not self.json:
            terminal.show(
                [BLANK_LINE, line(("Apply complete:", "bold green"), " the state is up to date.")]
            )
        elif (report.plan.changes or self._display.progress.nodes) and not self.json:
            terminal.show(
                [
                    BLANK_LINE,
                    *self._summary_lines(report, numbers, launched),
                    *_output_lines(values),
                ]
            )
        elif (report.plan.unrecorded or report.plan.recorded) and not self.json:
            terminal.show([BLANK_LINE, line("The state is up to date."), *_output_lines(values)])
        elif not self.json:  # nothing had to be done
            terminal.show(_output_lines(values))
        if not (report.failures or left):
            terminal.report(report.warnings)
        return 1 if report.failures or left else 0

    def _summary_lines(
        self, report: Report, numbers: Mapping[str, int], launched: Collection[str]
    ) -> Iterator[Line]:
        verb, failed = self._verb, report.failures
        if not failed:
            yield line((f"{verb} complete:", "bold green"), f" {_format_counts(verb, numbers)}.")
            return
        other = {"failed": len(failed) - len(launched), "not joined": len(launched)}
        counts = [_format_counts(verb, numbers), *(f"{n} {what}" for what, n in other.items() if n)]
        yield line((f"{verb} incomplete:", "bold red"), f" {', '.join(counts)}.")
        for text in self._describe_missing(failed, launched):
            yield from (line(part) for part in wrap(add_options(text), terminal.width(sys.stdout)))

    def _describe_missing(
        self, failed: Collection[str], launched: Collection[str]
    ) -> Iterator[str]:
        """Yield which nodes failed and what to do; a VM that has not joined costs money too."""
        assert self._plan is not None
        not_done = [name for name in failed if name not in launched]
        if not_done:
            request = self._plan.request or PlanRequest()
            to_replace = [
                change.name
                for change in self._plan.changes
                if change.name in not_done and change.reason is ChangeReason.REPLACE_REQUESTED
            ]
            request = request.model_copy(update={"replace": tuple(to_hostlist(to_replace))})
            command = request.command(self._verb.lower(), self._plan.mode)
            yield f"Failed: {format_names(not_done)}. Run `{command}` again to retry."
        if launched:
            node = "NODE" if len(launched) > 1 else next(iter(launched))
            running = (
                "which of these VMs are running"
                if len(launched) > 1
                else "whether its VM is running"
            )
            one = "the log of one" if len(launched) > 1 else "its log"
            another = "replaces terminated VMs; to replace another one"
            if len(launched) == 1:
                another = "replaces a terminated VM; to replace a running one"
            yield (
                f"Launched, but not joined: {format_names(launched)}. Run `planapply status` to see "
                f"{running}, and `planapply logs {node}` for {one}. The next apply {another}, run "
                f"`planapply apply --replace {node}`."
            )

    def _counts(self) -> dict[str, int]:
        """Return how many changes were made; with failures, that may be less than the plan."""
        return self._display.progress.counts()

    def _emit_finished(self, outcome: str, **data: Any) -> None:
        throttled = self._display.progress.throttled
        details = {"throttled": throttled} if throttled else {}
        self._emit_last_event(Event(event="finished", data={"outcome": outcome, **data, **details}))

    def _report_throttling(self) -> None:
        """Print advice if the cloud has throttled requests for long."""
        throttled = self._display.progress.throttled
        if throttled:
            terminal.print_message(
                "",
                f"The cloud throttled requests for at least {format_duration(throttled['seconds'])}. "
                "To avoid this, send fewer requests at once with --parallelism, look for other programs that "
                "send requests to this account, or ask the cloud for a higher limit.",
            )

    def _emit_last_event(self, event: Event) -> None:
        if self.json and not self._has_finished:
            self._display.on_event(event)
        self._has_finished = True


def _launched_failures(state: State, failed: Collection[str]) -> list[str]:
    """Return the failed nodes that have a VM."""
    return [n for n in failed if n in state.nodes and state.nodes[n].status == "launched"]


def _format_counts(verb: str, numbers: Mapping[str, int]) -> str:
    shown = {"destroyed": numbers["destroyed"]} if verb == "Destroy" else numbers
    return ", ".join(f"{number} {what}" for what, number in shown.items())


def _output_lines(values: Mapping[str, str | None]) -> list[Line]:
    rows = [
        [key, f"= {values[key]}"]
        for key in ("scheduler_address", "dashboard_url")
        if values.get(key)
    ]
    return [BLANK_LINE, *(line("".join(row)) for row in align_columns(rows, gap=1))] if rows else []


def _read_approval(verb: str) -> bool:
    terminal.print_message("")
    try:
        sys.stderr.write("Do you want to perform these actions? Only 'yes' will be accepted: ")
        sys.stderr.flush()
        answer = sys.stdin.readline()
    except (KeyboardInterrupt, Interrupted):
        terminal.print_message("", f"{verb} canceled; nothing was changed.")
        raise
    if not answer.endswith("\n"):  # Ctrl-D, which leaves the cursor behind the question
        terminal.print_message("")
    return answer.strip() == "yes"
