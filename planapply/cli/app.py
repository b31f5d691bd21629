"""The commands by name; each one's module is imported when it is used."""

from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

import planapply
from planapply.cli import terminal
from planapply.cli.errors import diagnostics_of, expected_diagnostics
from planapply.model.diagnostics import Diagnostic, PlanapplyError

# The module has the name of the command, and in it the function `command`, or, for a group of
# commands, `app`.
COMMANDS = {
    "init": "Write a commented starter spec.",
    "validate": "Check the spec, offline.",
    "plan": "Show what would change; change nothing.",
    "apply": "Change the cluster to what the spec says.",
    "destroy": "Remove everything that was launched.",
    "status": "Show nodes, their VMs, what has joined, drift and cost.",
    "output": "Print scheduler_address, dashboard_url and others.",
    "env": "Print shell exports for a bare distributed.Client().",
    "show": "Show a state or a saved plan, secrets hidden.",
    "state": "Look at the state, and change it by hand: list, show, rm, pull, push.",
    "list": "Show every cluster of this account, from the VMs' tags.",
    "recover": "Rebuild a lost state from the VMs' tags.",
    "logs": "Print what a node has printed.",
    "ssh": "Log in to a node.",
    "allow": "Let one more network reach the scheduler.",
    "unlock": "Break the lock of a holder that is gone.",
    "providers": "List the installed providers.",
    "schema": "Print the spec's JSON Schema.",
}
_OPTIONS: dict[str, Any] = {"rich_markup_mode": None, "add_completion": False}


class LazyGroup(TyperGroup):
    """Knows its commands' names and one line about each; the rest when one is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import it; fails with a suggestion for a name that is nearly right."""
        if cmd_name not in COMMANDS:
            matches = get_close_matches(cmd_name, COMMANDS, 1)
            hint = f" Did you mean {matches[0]!r}?" if matches else ""
            ctx.fail(f"There is no command {cmd_name!r}.{hint}")
        module = import_module(f"planapply.cli.{cmd_name}")
        app = getattr(module, "app", None)
        if app is None:
            app = typer.Typer(**_OPTIONS)
            app.command(cmd_name)(module.command)
        return typer.main.get_command(app)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """For `--help`, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


_app = typer.Typer(cls=LazyGroup, no_args_is_help=True, **_OPTIONS)


def _print_version(is_requested: bool) -> None:
    if is_requested:
        terminal.show_raw(f"planapply {planapply.__version__}\n")
        raise typer.Exit


@_app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=_print_version, is_eager=True
    ),
) -> None:
    """Terraform-like plan and apply for Dask clusters on cloud VMs."""


def run(arguments: Sequence[str]) -> int:
    """Run one command; everything that a user can provoke becomes diagnostics and exit code 1."""
    terminal.prepare_streams()
    try:
        code = typer.main.get_command(_app).main(
            args=list(arguments), prog_name="planapply", standalone_mode=False
        )
    except typer.TyperException as error:
        code = _report_usage_error(error)
    except typer.Abort:
        code = 1
    except Exception as error:
        code = _report_error(error)
    if (failure := terminal.output_error()) is not None:
        reason = failure.strerror or str(failure)
        return _report_error(PlanapplyError(f"the output can't be written: {reason}"))
    return code or 0


def _report_usage_error(error: typer.TyperException) -> int:
    """What is wrong with the arguments, and where help is."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "planapply"
    if type(error).__name__ == "NoArgsIsHelpError":
        terminal.print_message(error.format_message())
    else:
        terminal.report([Diagnostic(summary=error.format_message(), detail=f"See {path} --help")])
    return 1


def _report_error(error: Exception) -> int:
    if not expected_diagnostics(error):
        import traceback

        terminal.print_message("".join(traceback.format_exception(error)).rstrip())
    terminal.report(diagnostics_of(error))
    return 1
