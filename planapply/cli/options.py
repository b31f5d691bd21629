"""Options and arguments that several commands have."""

from typing import Annotated

import typer

from planapply import followup
from planapply.cli.complete import complete_node, complete_nodes
from planapply.model.paths import expand_home
from planapply.model.quantities import parse_duration

DEFAULT_FILE = "planapply.toml"


def parse_time(text: str | float) -> float:
    """Return an option's duration in seconds; raise BadParameter for anything else."""
    if str(text).strip() in ("0", "0.0", "0s", "0 s"):
        return 0.0
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(". ".join(str(error).split("\n"))) from None


def parse_number(text: str | int) -> int:
    """Return a number of at least 1 of an option; raise BadParameter for anything else."""
    if str(text).isdecimal() and str(text).isascii() and len(str(text)) < 10 and int(text) > 0:
        return int(text)
    raise typer.BadParameter(f"it must be a whole number of at least 1, not {text}")


def check_file_name(text: str | None) -> str | None:
    """Return a file name with its home folder; raise BadParameter if it is empty: this folder."""
    if text == "":
        raise typer.BadParameter("a file name cannot be empty")
    return text and expand_home(text)  # a shell leaves the `~` of `--file=~/x.toml`


def check_spec_name(text: str) -> str:
    """Return the path of a spec; raise BadParameter for a URL, which only a state can have."""
    if "://" in text:
        raise typer.BadParameter(
            f"{text!r} is a URL, and a spec is a file; pass the location of a state with --state"
        )
    text = check_file_name(text) or text
    if text != DEFAULT_FILE:
        followup.select("-f", text)
    return text


def _select_state(text: str | None) -> str | None:
    if text is not None:
        followup.select("--state", text)
    return text


def _select_provider(text: str | None) -> str | None:
    if text is not None:
        followup.select("--provider", text)
    return text


File = Annotated[
    str,
    typer.Option(
        "--file",
        "-f",
        metavar="SPEC",
        help="Spec file, or a state file.",
        callback=check_spec_name,
    ),
]
SpecFile = Annotated[
    str,
    typer.Option("--file", "-f", metavar="SPEC", help="Spec file.", callback=check_spec_name),
]
PlanFile = Annotated[
    str | None,
    typer.Argument(
        metavar="PLANFILE", help="Plan saved by `plan --out`.", callback=check_file_name
    ),
]
State = Annotated[
    str | None,
    typer.Option(
        "--state",
        metavar="PATH_OR_URL",
        help="Location of the state, overriding the spec: a path, s3://, gs:// or az://.",
        callback=_select_state,
    ),
]
ProviderName = Annotated[
    str | None,
    typer.Option(
        "--provider",
        metavar="NAME",
        help="Provider to use without a spec; pass its settings with --set 'provider.KEY=VALUE'.",
        callback=_select_provider,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a value of the spec: a dotted key and a TOML value. Repeatable.",
    ),
]
LockTimeout = Annotated[
    float,
    typer.Option(
        "--lock-timeout",
        metavar="DURATION",
        parser=parse_time,
        show_default=False,
        help='Time to wait for a state lock held by another process, such as "30 s". Commands '
        "that change nothing lock the state only if this is given.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
JsonEvents = Annotated[
    bool, typer.Option("--json", help="Print one JSON event per line, for programs.")
]
Node = Annotated[
    str,
    typer.Argument(
        metavar="NODE", help="A node, such as scheduler or cpu-3.", autocompletion=complete_node
    ),
]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        metavar="NODE",
        help="Limit to this node, group or range, such as 'cpu-[0-3]'. Repeatable.",
        autocompletion=complete_nodes,
    ),
]
Replace = Annotated[
    list[str] | None,
    typer.Option(
        "--replace",
        metavar="NODE",
        help="Force replacement of this node, group or range. Repeatable.",
        autocompletion=complete_nodes,
    ),
]
Destroy = Annotated[bool, typer.Option("--destroy", help="Plan to destroy the whole cluster.")]
NoRefresh = Annotated[
    bool, typer.Option("--no-refresh", help="Trust the state; do not query the cloud.")
]
ShowDrift = Annotated[
    bool,
    typer.Option("--refresh-only", help="Show only how the state differs from what exists."),
]
RefreshOnly = Annotated[
    bool,
    typer.Option("--refresh-only", help="Only update the state to match what exists."),
]
NoRetire = Annotated[
    bool,
    typer.Option(
        "--no-retire",
        help="Terminate leaving workers without moving their results to the others.",
    ),
]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Do not wait for the launched nodes to join.")
]
AutoApprove = Annotated[bool, typer.Option("--auto-approve", help="Do not ask for approval.")]
NoHooks = Annotated[bool, typer.Option("--no-hooks", help="Do not run the hooks of the spec.")]
NewCluster = Annotated[
    bool,
    typer.Option(
        "--new-cluster",
        help="Create the cluster although VMs of another one with this name exist.",
    ),
]
RefreshClient = Annotated[
    bool,
    typer.Option(
        "--refresh-client",
        help='Give nodes with `packages = "client"` the packages of this Python.',
    ),
]
TerminateUnknown = Annotated[
    bool,
    typer.Option(
        "--terminate-unknown",
        help="Terminate VMs with this cluster's tags that planapply did not launch.",
    ),
]
Parallelism = Annotated[
    int | None,
    typer.Option(
        "--parallelism",
        metavar="N",
        parser=parse_number,
        help="Limit of concurrent calls to the cloud. Default: the provider's limit.",
    ),
]
