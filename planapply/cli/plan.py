"""planapply plan"""

import shlex
import sys
from typing import Annotated

import typer

from planapply import terminal
from planapply.cli.open_workspace import open_for_plan, plan_options, print_event
from planapply.cli.options import (
    DEFAULT_FILE,
    Destroy,
    Json,
    LockTimeout,
    NoRefresh,
    Overrides,
    RefreshClient,
    Replace,
    ShowDrift,
    SpecFile,
    State,
    Targets,
    check_file_name,
)
from planapply.cli.saved_overrides import unsafe_overrides
from planapply.model.diagnostics import PlanapplyError
from planapply.model.plan import Plan
from planapply.ops.logs import lock_for_read
from planapply.ops.plan import plan
from planapply.render.document import plan_document
from planapply.render.markdown import plan_markdown
from planapply.render.plan import plan_lines


def command(
    file: SpecFile = DEFAULT_FILE,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Save the plan to a file, for `apply FILE`.",
            callback=check_file_name,
        ),
    ] = None,
    destroy: Destroy = False,
    no_refresh: NoRefresh = False,
    refresh_only: ShowDrift = False,
    target: Targets = None,
    replace: Replace = None,
    refresh_client: RefreshClient = False,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit with code 2 if there are changes.")
    ] = False,
    json: Json = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the plan as Markdown, for a pull request.")
    ] = False,
    overrides: Overrides = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> int:
    """Show the changes that apply would make.

    Changes nothing, neither in the cloud nor in the state.
    """
    if json and markdown:
        raise PlanapplyError("cannot combine --json with --markdown", "Remove one of them.")
    options = plan_options(
        destroy, no_refresh, refresh_only, target, replace, refresh_client=refresh_client
    )
    if out is not None:
        from planapply.store.planfile import check_destination, write_plan

        check_destination(out)
    workspace = open_for_plan(file, overrides, state, options)
    with lock_for_read(workspace, "plan", lock_timeout, print_event):
        planned = plan(workspace, options)
    if json:
        terminal.show_json(plan_document(planned.plan))
    elif markdown:
        terminal.show_raw(plan_markdown(planned.plan))
    else:
        show_plan(planned.plan)
    if out is not None:
        write_plan(out, planned.plan)
        terminal.print_message(
            "", f"Saved the plan. To apply it, run `{_apply_command(out, planned.plan)}`."
        )
    made = planned.plan
    changes = made.drift if refresh_only else (*made.changes, *made.unrecorded, *made.recorded)
    return 2 if detailed_exitcode and changes else 0


def _apply_command(planfile: str, plan: Plan) -> str:
    is_complete = not unsafe_overrides(plan)
    options = [] if is_complete else [w for option in plan.overrides for w in ("--set", option)]
    return shlex.join(["planapply", "apply", planfile, *options])


def show_plan(plan: Plan) -> None:
    """Print the plan, and below it the plan's warnings."""
    terminal.show(plan_lines(plan, terminal.width(sys.stdout)))
    if plan.diagnostics:
        terminal.print_message("")
        terminal.report(plan.diagnostics)
