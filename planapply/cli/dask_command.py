"""`dask planapply …`: the whole command line as a command of Dask's own, through the entry point group `dask_cli`."""

import click  # a dependency of Dask: typer's copy of click is not accepted there

from planapply.cli import main


class PassThrough(click.Command):
    """A command that leaves all arguments, `--help` and `--` included, to `main`, and exits with its exit code."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the arguments as they are."""
        ctx.args = args
        return args

    def invoke(self, ctx: click.Context) -> None:
        """Run planapply."""
        ctx.exit(main(ctx.args))


command = PassThrough(
    "planapply", short_help="Plan, apply, and destroy Dask clusters on cloud VMs."
)
