"""planapply watch"""

from typing import Annotated

import typer

from planapply.cli.open_workspace import open_state, report_early_failure
from planapply.cli.options import (
    DEFAULT_FILE,
    File,
    JsonEvents,
    LockTimeout,
    Overrides,
    State,
    check_file_name,
    parse_time,
)
from planapply.ops.workspace import Hooks

_SHORTEST, _LONGEST = 1.0, 86400.0


def _parse_interval(text: str | float) -> float:
    seconds = parse_time(text)
    if not _SHORTEST <= seconds <= _LONGEST:
        raise typer.BadParameter(f"it must be between 1 s and 1 d, not {text}")
    return seconds


def command(
    file: File = DEFAULT_FILE,
    interval: Annotated[
        float,
        typer.Option(
            "--interval",
            metavar="DURATION",
            parser=_parse_interval,
            show_default="30 s",
            help="Time between two rounds, such as 30s or 5min.",
        ),
    ] = 30.0,
    once: Annotated[
        bool,
        typer.Option(
            "--once", help="Run one round, for cron and CI; exit with 1 if something is wrong."
        ),
    ] = False,
    hooks: Annotated[
        str | None,
        typer.Option(
            "--hooks",
            metavar="FILE",
            help="Run the hooks in this file, such as the spec: a TOML file with a table [hooks].",
            callback=check_file_name,
        ),
    ] = None,
    json: JsonEvents = False,
    overrides: Overrides = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> int:
    """Keep the cluster as it was last applied, until it is destroyed or has terminated itself.

    Launches lost nodes of groups with a `count` again, replaces spot nodes that the cloud is about to
    reclaim, keeps elastic groups between `min` and `max`, follows the load with `adapt`, and resolves
    launch requests without a result. Works from the spec that was applied last, which
    the state records: edits of the file since then do not count. Replaces no node because of a
    changed spec, and does not launch a lost scheduler. Takes the state's lock only while it changes
    something.
    """
    with report_early_failure(json):
        workspace = open_state(file, overrides, state)
        if hooks is not None:
            workspace.hooks = Hooks.of_file(hooks)
    from planapply.cli.run_watch import WatchRun

    return WatchRun(workspace, interval, once, json, lock_timeout).run()
