"""The commands by name; a command's module is imported when the command is used."""

from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from importlib import import_module
from io import StringIO
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from planapply import followup, terminal
from planapply.cli.complete import VARIABLE, is_completing
from planapply.cli.errors import diagnostics_of, expected_diagnostics, failed_event
from planapply.model.diagnostics import Diagnostic, PlanapplyError
from planapply.render.document import error_document
from planapply.version import __version__

# The module of a command has its name, and contains the function `command`, or `app` for a group of
# commands.
COMMANDS = {
    "init": "Write a commented starter spec.",
    "validate": "Check the spec offline.",
    "plan": "Show the changes that apply would make.",
    "apply": "Create or change the cluster to match the spec.",
    "destroy": "Terminate the cluster and remove everything created for it.",
    "scale": "Change the number of nodes of elastic groups.",
    "watch": "Keep the cluster as last applied: launch lost nodes again.",
    "status": "Show nodes, VMs, joined workers, drift, and cost.",
    "output": "Print the scheduler address, the dashboard URL, and others.",
    "env": "Print shell exports so that distributed.Client() connects.",
    "history": "Show the last changes of the cluster.",
    "show": "Show the state or a saved plan, without secrets.",
    "state": "Inspect or edit the state: list, show, rm, pull, push.",
    "list": "List every cluster of this account, found by the VMs' tags.",
    "recover": "Rebuild a lost state from the VMs' tags.",
    "logs": "Print or follow the logs of nodes.",
    "ssh": "Log in to a node.",
    "allow": "Allow another network to reach the scheduler.",
    "unlock": "Release an abandoned state lock.",
    "providers": "List the installed providers.",
    "schema": "Print the JSON Schema of the spec.",
}
_OPTIONS: dict[str, Any] = {
    "rich_markup_mode": None,
    "add_completion": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}


class LazyGroup(TyperGroup):
    """A group that knows the names and summaries of its commands, and imports one when it is used."""

    _lists_names = False

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import the command; fail with a suggestion if the name is almost right."""
        if cmd_name not in COMMANDS:
            if ctx.resilient_parsing:  # a shell completes a command line that may be wrong
                return None
            from difflib import get_close_matches  # rarely needed

            matches = get_close_matches(cmd_name, COMMANDS, 1)
            hint = f" Did you mean {matches[0]!r}?" if matches else ""
            ctx.fail(f"no such command: {cmd_name!r}.{hint}")
        if self._lists_names:
            return TyperCommand(cmd_name, help=COMMANDS[cmd_name])
        module = import_module(f"planapply.cli.{cmd_name}")
        app = getattr(module, "app", None)
        if app is None:
            app = typer.Typer(**_OPTIONS)
            app.command(cmd_name)(module.command)
        return typer.main.get_command(app)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Return the completions of a command's name, without importing the commands."""
        self._lists_names = True
        try:
            return super().shell_complete(ctx, incomplete)
        finally:
            self._lists_names = False

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands into `--help` without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


_app = typer.Typer(cls=LazyGroup, no_args_is_help=True, **{**_OPTIONS, "add_completion": True})


def _print_version(is_requested: bool) -> None:
    if is_requested:
        terminal.show_raw(f"planapply {__version__}\n")
        raise typer.Exit


@_app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=_print_version, is_eager=True
    ),
) -> None:
    """Terraform-like plan and apply for Dask clusters on cloud VMs."""


def run(arguments: Sequence[str]) -> int:
    """Run one command; report every error that a user can cause as diagnostics, with exit code 1."""
    terminal.prepare_streams()
    followup.reset()
    if is_completing():
        return _complete(arguments)
    try:
        code = typer.main.get_command(_app).main(
            args=list(arguments), prog_name="planapply", standalone_mode=False
        )
    except typer.TyperException as error:
        code = _report_usage_error(error, arguments)
    except typer.Abort:
        code = 1
    except Exception as error:
        code = _report_error(error, arguments)
    if (failure := terminal.output_error()) is not None:
        reason = failure.strerror or str(failure)
        return _report_error(
            PlanapplyError(f"cannot write the output: {reason}", code="system_error"), ()
        )
    return code or 0


def _complete(arguments: Sequence[str]) -> int:
    """Print the completions that a shell asks for; print nothing else, whatever fails."""
    with suppress(Exception, SystemExit), redirect_stderr(StringIO()):
        typer.main.get_command(_app).main(
            args=list(arguments), prog_name="planapply", complete_var=VARIABLE
        )
    return 0


def _report_usage_error(error: typer.TyperException, arguments: Sequence[str]) -> int:
    """Report what is wrong with the arguments, and how to get help."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "planapply"
    if type(error).__name__ == "NoArgsIsHelpError":
        terminal.print_message(error.format_message())
    else:
        message = error.format_message().removesuffix(".")
        summary, advice = f"{message[:1].lower()}{message[1:]}", f"Run `{path} --help`."
        problem = Diagnostic(summary=summary, detail=advice, code="usage")
        terminal.report([problem])
        _show_error_document(arguments, [problem])
    return 1


def _show_error_document(arguments: Sequence[str], problems: Sequence[Diagnostic]) -> None:
    """Print the errors for programs, if the command has `--json` and has not printed its own."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if "--json" not in options or terminal.has_shown_result():
        return
    if options[0] in ("apply", "destroy", "scale", "watch"):
        terminal.show_event(failed_event(problems))
    else:
        terminal.show_json(error_document(problems))


def _report_error(error: Exception, arguments: Sequence[str]) -> int:
    if not expected_diagnostics(error):
        import traceback

        terminal.print_message("".join(traceback.format_exception(error)).rstrip())
    terminal.report(diagnostics_of(error))
    _show_error_document(arguments, diagnostics_of(error))
    return 1
