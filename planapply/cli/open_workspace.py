"""The workspace of a command, opened from the command's options."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from planapply import terminal
from planapply.cli.errors import diagnostics_of
from planapply.cli.signals import Interrupted, set_exit_notice
from planapply.model.diagnostics import PlanapplyError
from planapply.model.event import Event
from planapply.model.plan import Mode
from planapply.model.spec import state_location
from planapply.model.state import State
from planapply.ops.logs import lock_for_read
from planapply.ops.plan import PlanOptions
from planapply.ops.workspace import Workspace
from planapply.render.document import diagnostics_document
from planapply.render.progress import event_text
from planapply.render.text import make_printable


def open_spec(
    file: str, overrides: list[str] | None, state: str | None, *, with_hooks: bool = False
) -> Workspace:
    """Open the workspace of a command that needs the spec; check the classes that the spec names."""
    return _with_exit_notice(
        Workspace.from_spec(
            file, overrides or (), state, import_classes=True, with_hooks=with_hooks
        )
    )


def open_state(
    file: str, overrides: list[str] | None, state: str | None, *, with_hooks: bool = False
) -> Workspace:
    """Open the workspace of a command that needs only a state, and if `with_hooks`, the spec's hooks."""
    return _with_exit_notice(
        Workspace.from_state(file, overrides or (), state, with_hooks=with_hooks)
    )


def read_state(
    purpose: str, file: str, overrides: list[str] | None, state: str | None, lock_timeout: float
) -> State:
    """Return the state for a command that needs nothing else; `purpose` is the command's name."""
    workspace = open_state(file, overrides, state)
    with lock_for_read(workspace, purpose, lock_timeout, print_event):
        return workspace.read()


def open_cloud(
    file: str,
    provider: str | None,
    cluster: str | None,
    overrides: list[str] | None,
    state: str | None,
    *,
    needs_cluster: bool = False,
) -> Workspace:
    """Open the workspace of a command that needs only a provider, from the spec or the options.

    Raises PlanapplyError if it `needs_cluster`, and neither a spec nor `cluster` names one.
    """
    if provider is not None:
        if cluster is None and needs_cluster:
            raise PlanapplyError(
                "cannot recover a cluster without a spec: no cluster is named",
                "Name it: `planapply recover NAME`. `planapply list` shows the names.",
                code="usage",
            )
        location = state_location(None, file) if state is None else state
        return _with_exit_notice(
            Workspace.from_options(cluster or "unnamed", provider, overrides or (), state=location)
        )
    if not Path(file).exists():
        raise PlanapplyError(
            f"the spec {file} does not exist",
            "Select a spec with --file; or select a provider with --provider NAME, and pass its "
            "settings with `--set 'provider.KEY=VALUE'`.",
        )
    workspace = Workspace.from_spec(file, overrides or (), state)
    assert workspace.spec is not None
    if cluster not in (None, workspace.spec.cluster.name):
        raise PlanapplyError(
            f"the spec {file} defines cluster {workspace.spec.cluster.name!r}, not {cluster!r}",
            "Select the cluster's own spec with --file, or use --provider NAME without a spec.",
        )
    return _with_exit_notice(workspace)


def _with_exit_notice(workspace: Workspace) -> Workspace:
    set_exit_notice(lambda: make_printable(workspace.store.lock_notice()))
    workspace.on_event = print_event
    return workspace


def find_default_states(file: str) -> list[str]:
    """Return the states with a default name in the folder of the spec `file`."""
    return sorted(str(path) for path in Path(file).parent.glob("*.state.json"))


def open_for_plan(
    file: str,
    overrides: list[str] | None,
    state: str | None,
    options: PlanOptions,
    *,
    with_hooks: bool = False,
) -> Workspace:
    """Open the workspace of a plan: with the spec, or, to destroy, with a state that must exist."""
    if options.mode is not Mode.DESTROY:
        return open_spec(file, overrides, state, with_hooks=with_hooks)
    workspace = open_state(file, overrides, state, with_hooks=with_hooks)
    workspace.read("Nothing was applied with this state. If the state is elsewhere, pass --state.")
    return workspace


def plan_options(
    destroy: bool,
    no_refresh: bool,
    refresh_only: bool,
    targets: list[str] | None,
    replace: list[str] | None,
    terminate_unknown: bool = False,
    refresh_client: bool = False,
) -> PlanOptions:
    """Return the options; raise PlanapplyError if they contradict each other."""
    if refresh_only and (destroy or targets or replace or no_refresh):
        raise PlanapplyError(
            "cannot combine --refresh-only with --destroy, --target, --replace or --no-refresh",
            "--refresh-only reads the cloud and changes no node. Remove it, or the other options.",
        )
    if destroy and replace:
        raise PlanapplyError(
            "cannot combine --destroy with --replace: destroy launches nothing",
            "Remove one of them.",
        )
    if terminate_unknown and (targets or no_refresh or refresh_only):
        raise PlanapplyError(
            "cannot combine --terminate-unknown with --target, --no-refresh or --refresh-only",
            "It terminates VMs that the cloud shows and that are no nodes. Remove it, or the other options.",
        )
    if refresh_client and (destroy or refresh_only):
        raise PlanapplyError(
            f"cannot combine --refresh-client with {'--destroy' if destroy else '--refresh-only'}: "
            "it launches nothing",
            "Remove one of them.",
        )
    mode = Mode.DESTROY if destroy else Mode.REFRESH_ONLY if refresh_only else Mode.NORMAL
    return PlanOptions(
        mode=mode,
        refresh=not no_refresh,
        targets=tuple(targets or ()),
        replace=tuple(replace or ()),
        terminate_unknown=terminate_unknown,
        refresh_client=refresh_client,
    )


def non_terminal() -> str:
    """Return the stream that prevents a question, since it is not a terminal; empty if none does."""
    if sys.stdin is None or not terminal.is_terminal(sys.stdin):
        return "stdin"
    return "" if terminal.is_terminal(sys.stderr) else "stderr"


def print_event(event: Event) -> None:
    """Print an event of a command that has no live display."""
    terminal.print_message(event_text(event))


@contextmanager
def report_early_failure(json: bool) -> Iterator[None]:
    """Report an error before an apply starts as its last event, too, if `json`."""
    try:
        yield
    except (Exception, Interrupted) as error:
        if json:
            terminal.show_event(finished_event(error, {"added": 0, "changed": 0, "destroyed": 0}))
        raise


def finished_event(error: Exception | Interrupted, counts: Mapping[str, int]) -> Event:
    """Return the last event of an apply that an error or a signal stopped.

    `counts` has the numbers of changes that were made until then.
    """
    if isinstance(error, Interrupted):
        outcome, problems = "stopped", error.diagnostics
    else:
        outcome, problems = "failed", diagnostics_of(error)
    details = {"diagnostics": diagnostics_document(problems)} if problems else {}
    return Event(event="finished", data={"outcome": outcome, **counts, **details})
