"""plan, apply, and destroy from Python: the use cases of the commands of the same names."""

import logging
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planapply.api.arguments import Overrides, check_flags, to_names, to_path, to_state, to_texts
from planapply.api.durations import Duration, to_seconds
from planapply.api.progress import ProgressView, open_progress
from planapply.api.run_in_background import run_in_background
from planapply.model.diagnostics import Diagnostic, PlanapplyError
from planapply.model.event import Event
from planapply.model.names import format_names
from planapply.model.plan import Action, Mode, Plan
from planapply.model.secrets import environment_secrets, mask_values
from planapply.ops import apply as applying
from planapply.ops.apply import ApplyOptions, unknown_error
from planapply.ops.logs import lock_for_read
from planapply.ops.plan import PlanOptions
from planapply.ops.plan import plan as make_plan
from planapply.ops.saved import PlanRefused
from planapply.ops.workspace import Workspace
from planapply.render.diagnostics import diagnostic_lines
from planapply.render.failures import failure_diagnostics
from planapply.render.html import plan_html, report_html
from planapply.render.plan import plan_lines
from planapply.render.plan_footer import format_cost
from planapply.render.text import to_plain_text

logger = logging.getLogger("planapply")

_AGAIN = "Call `planapply.plan` again, and review the new plan."
_REFUSED_ADVICE = {
    "plan_stale": _AGAIN,
    "plan_differs": f"What exists has changed since the plan was made. {_AGAIN}",
    "plan_of_other_cluster": "Pass the spec and the state that the plan was made from.",
}
"""The advice for a plan that was passed as `plan=` and is refused, by the code of the error."""


class ClusterPlan(Plan):
    """The plan that `planapply.plan` returns: it prints like the command, and is a table in a notebook."""

    def __str__(self) -> str:
        shown = self._without_secrets()
        lines = [*plan_lines(shown), *diagnostic_lines(shown.diagnostics, 80)]
        return to_plain_text(lines).rstrip("\n")

    __repr__ = __str__

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        # For rich, which would show the configs with their variables.
        return [("cluster", self.cluster), ("summary", self.summary)]

    def _repr_html_(self) -> str:
        return plan_html(self._without_secrets())

    def _without_secrets(self) -> Plan:
        """Return the plan with diagnostics that quote no secret of the environment, as the command does."""
        secrets = environment_secrets(os.environ)
        masked = [
            d.model_copy(
                update={
                    "summary": mask_values(d.summary, secrets),
                    "detail": mask_values(d.detail, secrets),
                }
            )
            for d in self.diagnostics
        ]
        return self.model_copy(update={"diagnostics": tuple(masked)})


@dataclass(frozen=True, repr=False)
class ApplyReport:
    """The result of `planapply.apply` and `planapply.destroy`."""

    added: int
    """The number of nodes and supporting resources that were created."""
    changed: int
    destroyed: int
    seconds: float
    """Duration of the call, including the time to make the plan."""
    plan: ClusterPlan
    """The plan that was carried out."""
    is_complete: bool = True
    """Whether everything in the plan was done; if not, ApplyIncomplete was raised."""

    def __str__(self) -> str:
        counts = ", ".join(f"{number} {name}" for name, number in self._counts().items())
        return f"{self._title()}: {counts} ({self._seconds()})"

    __repr__ = __str__

    def _title(self) -> str:
        verb = "Destroy" if self.plan.mode is Mode.DESTROY else "Apply"
        return f"{verb} {'complete' if self.is_complete else 'incomplete'}"

    def _counts(self) -> dict[str, int]:
        if self.plan.mode is Mode.DESTROY:
            return {"destroyed": self.destroyed}
        return {"added": self.added, "changed": self.changed, "destroyed": self.destroyed}

    def _seconds(self) -> str:
        return f"{self.seconds:.0f} s"

    def _repr_html_(self) -> str:
        counts = {name.capitalize(): str(number) for name, number in self._counts().items()}
        cost = self.plan.cost if self.is_complete else None
        costs = {} if cost is None or cost.after == 0 else {"Cost": format_cost(cost)}
        title = f"{self._title()}: cluster {self.plan.cluster}"
        return report_html(title, {**counts, "Time": self._seconds(), **costs})


class ApplyIncomplete(PlanapplyError):
    """Part of an apply failed: `report` says what was done, which the state records.

    Also raised if a destroy left VMs with the cluster's tags that planapply did not launch.
    """

    def __init__(self, report: ApplyReport, diagnostics: Sequence[Diagnostic]) -> None:
        self.report = report
        super().__init__(diagnostics=tuple(diagnostics))


def plan(
    path: str | Path = "planapply.toml",
    *,
    overrides: Overrides = (),
    state: str | Path | None = None,
    targets: Collection[str] = (),
    replace: Collection[str] = (),
    destroy: bool = False,
    refresh_client: bool = False,
    lock_timeout: Duration = 0.0,
) -> ClusterPlan:
    """Return what `planapply.apply` would do now; change nothing.

    Use it to review changes in a notebook or a job. `path` is the spec; `overrides` are dotted keys with
    values, or `KEY=VALUE` texts; `state` is the path or URL of the state, by default the spec's. `targets`
    and `replace` are names of nodes, as for `--target` and `--replace`. `destroy` plans the removal of the
    cluster. `refresh_client` gives nodes with `packages = "client"` the packages of this Python.
    `lock_timeout` is how long to wait for another process's change: seconds, or a duration such as "10s".
    Raise PlanapplyError with everything that is wrong.
    """
    check_flags(destroy=destroy, refresh_client=refresh_client)
    if destroy and refresh_client:
        raise TypeError("cannot pass refresh_client together with destroy, which launches nothing")
    mode = Mode.DESTROY if destroy else Mode.NORMAL
    options = PlanOptions(
        mode=mode,
        targets=to_names("targets", targets),
        replace=to_names("replace", replace),
        refresh_client=refresh_client,
    )
    timeout = to_seconds(lock_timeout, "lock_timeout")
    workspace = _open(path, overrides, state, mode, with_hooks=False)

    def work(on_event: Callable[[Event], None]) -> ClusterPlan:
        with lock_for_read(workspace, "plan", timeout, on_event):
            return _to_cluster_plan(make_plan(workspace, options).plan)

    return run_in_background(work, workspace, ProgressView())


def apply(
    path: str | Path = "planapply.toml",
    *,
    overrides: Overrides = (),
    state: str | Path | None = None,
    targets: Collection[str] = (),
    replace: Collection[str] = (),
    plan: Plan | None = None,
    approve: bool = False,
    wait: bool = True,
    retire: bool = True,
    refresh_client: bool = False,
    new_cluster: bool = False,
    terminate_unknown: bool = False,
    progress: bool | Callable[[Event], None] = True,
    lock_timeout: Duration = 0.0,
) -> ApplyReport:
    """Create or change the cluster to match its spec, without asking.

    Use it where `planapply apply --auto-approve` would be used, also where an event loop runs already. The
    spec's hooks run, too. A plan that destroys or replaces a node raises, unless `approve` is True or `plan`
    is given: then exactly that plan is carried out, and refused if it is stale. `wait` is whether to wait
    until the launched nodes have joined. `retire`, `refresh_client`, `new_cluster`, and `terminate_unknown`
    are the options `--no-retire`, `--refresh-client`, `--new-cluster`, and `--terminate-unknown`. `progress`
    shows the progress, or is called with each event, in the calling thread. For the other parameters see
    `planapply.plan`. Raise PlanapplyError if something is wrong, and ApplyIncomplete if a part failed. An
    interrupted call records what it has done; the next one continues.
    """
    if plan is not None and (
        overrides or targets or replace or terminate_unknown or refresh_client
    ):
        raise TypeError(
            "cannot pass overrides, targets, replace, refresh_client, or terminate_unknown together "
            "with `plan`: the plan has them already"
        )
    if plan is not None and not isinstance(plan, Plan):
        raise TypeError(f"plan must be a plan that planapply.plan returned, not {plan!r}")
    check_flags(approve=approve, wait=wait, new_cluster=new_cluster)
    check_flags(retire=retire, terminate_unknown=terminate_unknown, refresh_client=refresh_client)
    _check_terminate_unknown(terminate_unknown, targets)
    mode = Mode.NORMAL if plan is None else plan.mode
    options = PlanOptions(
        mode=mode,
        targets=to_names("targets", targets),
        replace=to_names("replace", replace),
        terminate_unknown=terminate_unknown,
        refresh_client=refresh_client,
    )
    workspace = _open(path, overrides if plan is None else plan.overrides, state, mode)

    def check(made: Plan) -> None:
        lost = [
            change.name
            for change in made.changes
            if change.kind != "resource" and change.action in (Action.REPLACE, Action.DESTROY)
        ]
        if lost and not approve and plan is None:
            raise PlanapplyError(
                f"cannot apply without approval: the plan destroys or replaces {format_names(lost)}",
                "Review it with `planapply.plan`, then pass it as `plan=`, or pass `approve=True`.",
            )

    apply_options = ApplyOptions(
        wait=wait,
        retire=retire,
        lock_timeout=to_seconds(lock_timeout, "lock_timeout"),
        new_cluster=new_cluster,
    )
    try:
        return apply_workspace(workspace, apply_options, check, progress, options, plan)
    except PlanRefused as refused:
        raise PlanapplyError(
            f"cannot apply the plan: it {refused.problem}",
            _REFUSED_ADVICE[refused.code],
            code=refused.code,
        ) from refused


def destroy(
    path: str | Path = "planapply.toml",
    *,
    overrides: Overrides = (),
    state: str | Path | None = None,
    targets: Collection[str] = (),
    retire: bool = True,
    terminate_unknown: bool = False,
    progress: bool | Callable[[Event], None] = True,
    lock_timeout: Duration = 0.0,
) -> ApplyReport:
    """Remove the cluster, or the nodes in `targets`, without asking.

    For the parameters see `planapply.apply`; of the spec, only the state's location and the hooks are read:
    if `before_destroy` fails, nothing is destroyed. Raise
    PlanapplyError if something is wrong, or if `protect` forbids it, and ApplyIncomplete with what could
    not be removed, or with the VMs that have the cluster's tags though planapply did not launch them:
    `terminate_unknown` terminates those, too.
    """
    check_flags(retire=retire, terminate_unknown=terminate_unknown)
    _check_terminate_unknown(terminate_unknown, targets)
    options = PlanOptions(
        mode=Mode.DESTROY,
        targets=to_names("targets", targets),
        terminate_unknown=terminate_unknown,
    )
    workspace = _open(path, overrides, state, Mode.DESTROY)
    apply_options = ApplyOptions(
        retire=retire, lock_timeout=to_seconds(lock_timeout, "lock_timeout")
    )
    return apply_workspace(workspace, apply_options, lambda plan: None, progress, options)


def _check_terminate_unknown(terminate_unknown: bool, targets: Collection[str]) -> None:
    if terminate_unknown and targets:
        raise TypeError(
            "cannot pass terminate_unknown together with targets: VMs that are no nodes are no targets"
        )


def _open(
    path: str | Path,
    overrides: Overrides,
    state: str | Path | None,
    mode: Mode,
    *,
    with_hooks: bool = True,
) -> Workspace:
    file, texts, location = to_path("path", path), to_texts(overrides), to_state(state)
    if mode is not Mode.DESTROY:
        return Workspace.from_spec(
            file, texts, location, import_classes=True, with_hooks=with_hooks
        )
    workspace = Workspace.from_state(file, texts, location, with_hooks=with_hooks)
    workspace.read()
    return workspace


def _to_cluster_plan(plan: Plan) -> ClusterPlan:
    return ClusterPlan.model_construct(
        _fields_set=plan.model_fields_set,
        **{name: getattr(plan, name) for name in Plan.model_fields},
    )


def apply_workspace(
    workspace: Workspace,
    apply_options: ApplyOptions,
    check: Callable[[Plan], None],
    progress: bool | Callable[[Event], None],
    options: PlanOptions = PlanOptions(),
    saved_plan: Plan | None = None,
) -> ApplyReport:
    """Apply like `apply`; `check` raises if the plan must not be carried out."""
    start = workspace.clock.monotonic()
    view = open_progress(progress, workspace.clock.monotonic, wait=apply_options.wait)

    def work(on_event: Callable[[Event], None]) -> applying.Report:
        def confirm(plan: Plan) -> bool:
            check(plan)
            view.expect(plan)
            return True

        return applying.apply(
            workspace, confirm, options, apply_options, saved_plan=saved_plan, on_event=on_event
        )

    with closing(view):
        result = run_in_background(work, workspace, view)
    for found in result.warnings:
        logger.warning("%s. %s", found.summary, found.detail)
    left = unknown_error(result.unknown, result.plan.cluster)
    is_complete = not (result.failures or left)
    report = ApplyReport(
        **view.progress.counts(result.plan if is_complete else None),
        seconds=workspace.clock.monotonic() - start,
        plan=_to_cluster_plan(result.plan),
        is_complete=is_complete,
    )
    if not is_complete:
        failures = failure_diagnostics(result.failures)
        raise ApplyIncomplete(report, [*failures, *(left.diagnostics if left else ())])
    return report
