"""planapply scale"""

from typing import Annotated

import typer

from planapply.cli.complete import complete_size
from planapply.cli.open_workspace import open_state, report_early_failure
from planapply.cli.options import (
    DEFAULT_FILE,
    AutoApprove,
    File,
    JsonEvents,
    LockTimeout,
    NoHooks,
    NoRetire,
    NoWait,
    Overrides,
    Parallelism,
    State,
)
from planapply.model.diagnostics import PlanapplyError
from planapply.model.plan import Mode
from planapply.ops.plan import PlanOptions


def command(
    groups: Annotated[
        list[str],
        typer.Argument(
            metavar="GROUP=N",
            help="An elastic group and its number of nodes.",
            autocompletion=complete_size,
        ),
    ],
    file: File = DEFAULT_FILE,
    auto_approve: AutoApprove = False,
    no_wait: NoWait = False,
    parallelism: Parallelism = None,
    no_retire: NoRetire = False,
    no_hooks: NoHooks = False,
    json: JsonEvents = False,
    overrides: Overrides = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> int:
    """Change the number of nodes of elastic groups.

    For example: planapply scale cpu=10. Works from the spec that was applied last, which the state
    records: edits of the file since then do not count. Shows the plan and asks for approval, as
    apply does.
    """
    with report_early_failure(json):
        options = PlanOptions(mode=Mode.SCALE, sizes=parse_sizes(groups))
        workspace = open_state(file, overrides, state, with_hooks=not no_hooks)
    from planapply.cli.run_apply import ApplyRun
    from planapply.ops.apply import ApplyOptions

    apply_options = ApplyOptions(
        wait=not no_wait, retire=not no_retire, parallel=parallelism, lock_timeout=lock_timeout
    )
    return ApplyRun(workspace, options, apply_options, auto_approve, json).run()


def parse_sizes(texts: list[str]) -> dict[str, int]:
    """Return the number of nodes of each group in `GROUP=N` texts; raise PlanapplyError if one is wrong."""
    sizes: dict[str, int] = {}
    for text in texts:
        group, separator, number = text.partition("=")
        if not (group and separator and number):
            raise PlanapplyError(
                f"cannot scale: {text!r} is not GROUP=N",
                "Write the name of a group and its number of nodes, such as `planapply scale cpu=4`.",
                code="usage",
            )
        if not (number.isascii() and number.isdecimal() and len(number) < 10):
            raise PlanapplyError(
                f"cannot scale {group!r} to {number!r} nodes",
                "Write a whole number of at least 0.",
                code="usage",
            )
        if group in sizes:
            raise PlanapplyError(
                f"cannot scale {group!r}: the group is given twice",
                "Name each group once.",
                code="usage",
            )
        sizes[group] = int(number)
    return sizes
