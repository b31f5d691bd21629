"""planapply init"""

from typing import Annotated

import typer

from planapply import terminal
from planapply.cli.options import DEFAULT_FILE, check_spec_name
from planapply.ops.validate import suggest_gitignore, write_starter


def command(
    file: Annotated[
        str,
        typer.Option(
            "--file", "-f", metavar="SPEC", help="File to write.", callback=check_spec_name
        ),
    ] = DEFAULT_FILE,
    provider: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Provider of the VMs; run `planapply providers` for a list."
        ),
    ] = "local",
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Select a starter, if the provider has several: for libcloud, "
            "--set 'provider.driver=\"openstack\"'.",
        ),
    ] = None,
) -> None:
    """Write a commented starter spec, named after its folder; an existing file is never overwritten."""
    write_starter(file, provider, overrides or ())
    terminal.print_message(
        f"Wrote {file}. Review it, then run `planapply plan` and `planapply apply`."
    )
    gitignore, pattern = suggest_gitignore(file)
    if pattern:
        terminal.print_message(
            f"To keep the state and its lock out of git, add this line to {gitignore}: `{pattern}`"
        )
