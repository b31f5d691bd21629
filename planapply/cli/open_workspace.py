"""What a command works on, from the options that it was given."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from planapply.cli import terminal
from planapply.cli.errors import diagnostics_of
from planapply.cli.signals import Interrupted, set_exit_notice
from planapply.model.diagnostics import PlanapplyError
from planapply.model.event import Event
from planapply.model.spec import state_location
from planapply.ops.plan import PlanOptions
from planapply.ops.workspace import Workspace
from planapply.render.document import diagnostics_document
from planapply.render.progress import event_text
from planapply.render.text import make_printable


def open_spec(file: str, overrides: list[str] | None, state: str | None) -> Workspace:
    """For commands that need the spec; its classes are checked."""
    return _with_exit_notice(Workspace.from_spec(file, overrides or (), state, import_classes=True))


def open_state(file: str, overrides: list[str] | None, state: str | None) -> Workspace:
    """For commands that a state will do for."""
    return _with_exit_notice(Workspace.from_state(file, overrides or (), state))


def open_cloud(
    file: str,
    provider: str | None,
    cluster: str | None,
    overrides: list[str] | None,
    state: str | None,
) -> Workspace:
    """For commands that need a provider and no more: with the spec, or what the options say."""
    if provider is not None:
        location = state_location(None, file) if state is None else state
        return _with_exit_notice(
            Workspace.from_options(cluster or "unnamed", provider, overrides or (), state=location)
        )
    if not Path(file).exists():
        raise PlanapplyError(
            f"the spec {file} does not exist",
            "Name one with --file; or say whose VMs are meant with --provider NAME, and with "
            "--set 'provider.KEY=VALUE' for its settings.",
        )
    workspace = Workspace.from_spec(file, overrides or (), state)
    assert workspace.spec is not None
    if cluster not in (None, workspace.spec.cluster.name):
        raise PlanapplyError(
            f"the spec {file} is of cluster {workspace.spec.cluster.name!r}, not {cluster!r}",
            "Name its own spec with --file, or do without one: --provider NAME.",
        )
    return _with_exit_notice(workspace)


def _with_exit_notice(workspace: Workspace) -> Workspace:
    set_exit_notice(lambda: make_printable(workspace.store.lock_notice()))
    return workspace


def find_default_states(file: str) -> list[str]:
    """The states that have their default place, in the folder of the spec `file`."""
    return sorted(str(path) for path in Path(file).parent.glob("*.state.json"))


def open_for_plan(
    file: str, overrides: list[str] | None, state: str | None, options: PlanOptions
) -> Workspace:
    """With the spec, but to destroy: that needs a state, which must be there."""
    if not options.destroy:
        return open_spec(file, overrides, state)
    workspace = open_state(file, overrides, state)
    workspace.read()
    return workspace


def plan_options(
    destroy: bool,
    no_refresh: bool,
    refresh_only: bool,
    targets: list[str] | None,
    replace: list[str] | None,
) -> PlanOptions:
    """Raises PlanapplyError for options that contradict each other."""
    if refresh_only and (destroy or replace or no_refresh):
        raise PlanapplyError(
            "--refresh-only changes no node and asks the cloud",
            "Leave out --destroy, --replace and --no-refresh, or --refresh-only.",
        )
    if destroy and replace:
        raise PlanapplyError("--destroy replaces nothing", "Leave out --replace, or --destroy.")
    return PlanOptions(
        destroy=destroy,
        refresh=not no_refresh,
        refresh_only=refresh_only,
        targets=tuple(targets or ()),
        replace=tuple(replace or ()),
    )


def is_interactive() -> bool:
    """Whether a person can read a question and answer it."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def print_event(event: Event) -> None:
    """An event of a command that has no display."""
    terminal.print_message(event_text(event))


@contextmanager
def report_early_failure(json: bool) -> Iterator[None]:
    """With `json`, what ends an apply before it has begun is told by its last event, too."""
    try:
        yield
    except (Exception, Interrupted) as error:
        if json:
            terminal.show_event(finished_event(error, {"added": 0, "changed": 0, "destroyed": 0}))
        raise


def finished_event(error: Exception | Interrupted, counts: Mapping[str, int]) -> Event:
    """The last event of an apply that an error or a signal has ended; `counts` is what was done."""
    if isinstance(error, Interrupted):
        outcome, problems = "stopped", error.diagnostics
    else:
        outcome, problems = "failed", diagnostics_of(error)
    details = {"diagnostics": diagnostics_document(problems)} if problems else {}
    return Event(event="finished", data={"outcome": outcome, **counts, **details})
