"""planapply init"""

from typing import Annotated

import typer

from planapply.cli import terminal
from planapply.cli.options import DEFAULT_FILE, check_spec_name
from planapply.ops.validate import write_starter


def command(
    file: Annotated[
        str,
        typer.Option(
            "--file", "-f", metavar="SPEC", help="The file to write.", callback=check_spec_name
        ),
    ] = DEFAULT_FILE,
    provider: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Where the VMs will be; `planapply providers` lists them."
        ),
    ] = "local",
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="What the spec shall have, where the provider has several starters: "
            "--set 'provider.driver=\"openstack\"' for libcloud.",
        ),
    ] = None,
) -> None:
    """Write a commented starter spec; a file that is there is never overwritten."""
    write_starter(file, provider, overrides or ())
    terminal.print_message(f"Wrote {file}. Look it through, then: planapply plan")
