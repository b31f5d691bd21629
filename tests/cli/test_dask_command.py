"""`dask planapply …`: the command line as a command of Dask's own."""

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from dask.cli import cli as dask_cli

from planapply.cli import dask_command


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The arguments of each call of planapply, which exits with 2."""
    calls: list[list[str]] = []

    def main(arguments: list[str]) -> int:
        calls.append(arguments)
        return 2

    monkeypatch.setattr(dask_command, "main", main)
    return calls


def run(*arguments: str) -> Result:
    """Run `dask` with its commands and planapply's."""
    dask = click.Group("dask", commands={**dask_cli.commands, "planapply": dask_command.command})
    return CliRunner().invoke(dask, ["planapply", *arguments])


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--help"],
        ["--version"],
        ["plan", "-h"],
        ["plan", "--detailed-exitcode", "--set=cluster.name=x", "-f", "a b.toml"],
        ["show", "--", "--plan"],
        ["--", "plan"],
        ["logs", "cpu-[0-1]", ""],
    ],
)
def test_arguments_and_exit_code_pass_through(
    received: list[list[str]], arguments: list[str]
) -> None:
    done = run(*arguments)
    assert (done.exit_code, done.output) == (2, "")
    assert received == [arguments]


def test_dask_lists_the_command() -> None:
    [entry] = entry_points(group="dask_cli", name="planapply")
    assert entry.load() is dask_command.command
    done = CliRunner().invoke(click.Group("dask", commands={"planapply": entry.load()}), ["--help"])
    assert "planapply  Plan, apply, and destroy Dask clusters on cloud VMs." in done.output


STARTUP = """
import sys
import planapply.cli.dask_command
slow = "asyncio boto3 cryptography dask distributed libcloud obstore pydantic rich typer".split()
sys.exit(str([name for name in slow if name in sys.modules]))
"""


def test_other_commands_of_dask_start_as_fast_as_before() -> None:
    done = subprocess.run([sys.executable, "-c", STARTUP], capture_output=True, text=True)
    assert done.stderr == "[]\n"


@pytest.mark.slow
def test_errors_are_those_of_planapply(tmp_path: Path) -> None:
    code = "from dask.cli import run_cli; run_cli()"
    done = subprocess.run(
        [sys.executable, "-c", code, "planapply", "validate"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: the spec planapply.toml does not exist\n")
