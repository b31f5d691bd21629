"""The options that commands share."""

from typing import Annotated

import typer

from planapply.model.quantities import parse_duration

DEFAULT_FILE = "planapply.toml"


def _duration(text: str | float) -> float:
    if str(text).strip() in ("0", "0.0", "0s", "0 s"):
        return 0.0
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(". ".join(str(error).split("\n"))) from None


def check_file_name(text: str | None) -> str | None:
    """The name of a file, before anything is done; an empty one would mean this folder."""
    if text == "":
        raise typer.BadParameter("'' names no file.")
    return text


def check_spec_name(text: str) -> str:
    """The name of a spec, which has no address; a state may have one."""
    if "://" in text:
        raise typer.BadParameter(
            f"{text!r} is an address, and a spec is a file. A state is named with --state."
        )
    check_file_name(text)
    return text


File = Annotated[
    str,
    typer.Option(
        "--file",
        "-f",
        metavar="SPEC",
        help="The spec file, or a state file.",
        callback=check_spec_name,
    ),
]
PlanFile = Annotated[
    str | None,
    typer.Argument(
        metavar="[PLANFILE]", help="A plan that `plan --out` saved.", callback=check_file_name
    ),
]
State = Annotated[
    str | None,
    typer.Option(
        "--state",
        metavar="PATH_OR_URL",
        help="Where the state is, in place of what the spec says: a path, s3://, gs:// or az://.",
    ),
]
ProviderName = Annotated[
    str | None,
    typer.Option(
        "--provider",
        metavar="NAME",
        help="Whose VMs, in place of a spec; its settings with --set 'provider.KEY=VALUE'.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override the spec: a dotted key and a TOML value; can be repeated.",
    ),
]
LockTimeout = Annotated[
    float,
    typer.Option(
        "--lock-timeout",
        metavar="DURATION",
        parser=_duration,
        show_default=False,
        help='How long to wait for somebody else\'s lock on the state, such as "30 s". Commands '
        "that change nothing take no lock unless this is given.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        metavar="NODE",
        help="Only this node, group, or range such as 'cpu-[0..3]'; can be repeated.",
    ),
]
Replace = Annotated[
    list[str] | None,
    typer.Option(
        "--replace",
        metavar="NODE",
        help="Replace this node, group or range though nothing differs; can be repeated.",
    ),
]
Destroy = Annotated[bool, typer.Option("--destroy", help="Plan the end of everything.")]
NoRefresh = Annotated[
    bool, typer.Option("--no-refresh", help="Trust the state; do not ask the cloud what exists.")
]
RefreshOnly = Annotated[
    bool,
    typer.Option("--refresh-only", help="Only bring the state up to date with what exists."),
]
AutoApprove = Annotated[bool, typer.Option("--auto-approve", help="Do not ask.")]
Parallelism = Annotated[
    int | None,
    typer.Option(
        "--parallelism",
        metavar="N",
        min=1,
        help="The most calls to the cloud at one time. Default: what the provider allows.",
    ),
]
