"""Commands that a message proposes mean the spec and the state of the command that printed it."""

import json
from pathlib import Path

import pytest
from cli.commands import Run
from fake_provider import FakeCloud
from inline_snapshot import snapshot

import planapply
from planapply import followup
from planapply.model.diagnostics import PlanapplyError
from planapply.model.plan import Mode, PlanRequest
from planapply.provider import ErrorKind


@pytest.fixture
def options() -> None:
    followup.reset()
    followup.select("-f", "my spec.toml")
    followup.select("--state", "s3://b/x.json")


@pytest.mark.usefixtures("options")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Run `planapply apply`.",
            "Run `planapply apply -f 'my spec.toml' --state s3://b/x.json`.",
        ),
        (
            "`planapply logs NODE`",
            "`planapply logs -f 'my spec.toml' --state s3://b/x.json NODE`",
        ),
        (
            "`planapply state list`",
            "`planapply state list -f 'my spec.toml' --state s3://b/x.json`",
        ),
        ("`planapply init`", "`planapply init -f 'my spec.toml'`"),
        ("`planapply validate`", "`planapply validate -f 'my spec.toml'`"),
        ("`planapply providers`", "`planapply providers`"),
        ("`planapply unlock a --state /x`", "`planapply unlock a --state /x`"),
        ("`planapply plan -f other.toml`", "`planapply plan -f other.toml`"),
        ("planapply apply is not code here", "planapply apply is not code here"),
        ("`planapply.Cluster.from_spec`", "`planapply.Cluster.from_spec`"),
    ],
)
def test_commands_get_the_options(text: str, expected: str) -> None:
    assert followup.add_options(text) == expected


@pytest.mark.usefixtures("options")
def test_provider_is_repeated_by_the_commands_that_take_it() -> None:
    followup.select("--provider", "ec2")
    text = "`planapply recover NAME`, `planapply list --provider libcloud`, `planapply plan`"
    assert followup.add_options(text) == (
        "`planapply recover -f 'my spec.toml' --state s3://b/x.json --provider ec2 NAME`, "
        "`planapply list -f 'my spec.toml' --state s3://b/x.json --provider libcloud`, "
        "`planapply plan -f 'my spec.toml' --state s3://b/x.json`"
    )


def test_results_repeat_the_options(run: Run, cloud: FakeCloud) -> None:
    Path("planapply.toml").rename("a spec with a long name.toml")
    options = ("-f", "a spec with a long name.toml")
    assert run("apply", "--auto-approve", "--no-wait", *options).code == 0
    cloud.end_vm("i-0001")
    assert run("status", *options).out.partition("Drift: ")[2] == snapshot("""\
cpu-0 has terminated, by itself (ttl, idle_timeout, or a failure) or outside of planapply.
See `planapply logs -f 'a spec with a long name.toml' cpu-0`; run
`planapply plan -f 'a spec with a long name.toml'` to see what an apply would do.
""")
    Path("a spec with a long name.state.json").unlink()
    assert run("list", "--provider", "fake").out.rpartition("\n\n")[2] == snapshot("""\
planapply cannot tell whether a missing state is elsewhere or lost. If it is elsewhere, pass its
location with --state; if it is lost, rebuild it with `planapply recover --provider fake NAME`.
""")


@pytest.mark.parametrize(
    ("name", "mode", "request_", "expected"),
    [
        ("plan", Mode.NORMAL, PlanRequest(), "planapply plan"),
        ("apply", Mode.REFRESH_ONLY, PlanRequest(), "planapply apply --refresh-only"),
        (
            "plan",
            Mode.DESTROY,
            PlanRequest(targets=("cpu-[0-3]", "gpu"), terminate_unknown=True),
            "planapply plan --destroy --target 'cpu-[0-3]' --target gpu",
        ),
        (
            "destroy",
            Mode.DESTROY,
            PlanRequest(terminate_unknown=True),
            "planapply destroy --terminate-unknown",
        ),
        (
            "apply",
            Mode.NORMAL,
            PlanRequest(refresh=False, replace=("cpu-0",)),
            "planapply apply --no-refresh --replace cpu-0",
        ),
    ],
)
def test_commands_repeat_the_options_of_the_plan(
    name: str, mode: Mode, request_: PlanRequest, expected: str
) -> None:
    assert request_.command(name, mode) == expected


def test_saved_plan_to_destroy_is_planned_again_as_such(run: Run, cloud: FakeCloud) -> None:
    assert run("apply", "--auto-approve", "--no-wait").code == 0
    assert run("plan", "--destroy", "--target", "cpu-[0-1]", "--out", "p").code == 0
    assert (
        run("apply", "--auto-approve", "--no-wait", "--no-retire", "--replace", "cpu-2").code == 0
    )
    assert run("apply", "p").err == snapshot("""\
Error: the plan file is stale: the serial of the state was 6, and is now 11
  To plan again: `planapply plan --destroy --target 'cpu-[0-1]' --out FILE`
""")


def test_failed_replacement_is_repeated_with_its_options(run: Run, cloud: FakeCloud) -> None:
    assert run("apply", "--auto-approve", "--no-wait").code == 0
    cloud.fail_next("launch", ErrorKind.REJECTED)
    options = ("--no-wait", "--no-retire", "--replace", "cpu-1", "--target", "cpu-1")
    result = run("apply", "--auto-approve", *options)
    assert result.out.partition("Apply ")[2] == snapshot("""\
incomplete: 0 added, 0 changed, 1 destroyed, 1 failed.
Failed: cpu-1. Run `planapply apply --target cpu-1 --replace cpu-1` again to retry.

scheduler_address = tcp://127.0.0.1:1
""")


def test_commands_with_default_options_are_unchanged(run: Run, cloud: FakeCloud) -> None:
    run("status", "--state", "s3.json")
    assert run("status").err == snapshot("""\
Error: there is no state at planapply.state.json
  Run `planapply apply` first; or, if the state is elsewhere, pass --state. `planapply list` shows
  clusters whose state is elsewhere or lost.
""")


def test_errors_repeat_the_options(run: Run, cloud: FakeCloud) -> None:
    Path("planapply.toml").rename("other.toml")
    assert run("status", "--state", "x.json").err == snapshot("""\
Error: there is no state at x.json
  Run `planapply apply --state x.json` first; or, if the state is elsewhere, pass --state.
  `planapply list --state x.json --provider PROVIDER` shows clusters whose state is elsewhere or
  lost.
""")
    assert run("status", "-f", "other.toml").err == snapshot("""\
Error: there is no state at other.state.json
  Run `planapply apply -f other.toml` first; or, if the state is elsewhere, pass --state.
  `planapply list -f other.toml` shows clusters whose state is elsewhere or lost.
""")
    assert run("status", "-f", "other.toml", "--state", "x.json").err == snapshot("""\
Error: there is no state at x.json
  Run `planapply apply -f other.toml --state x.json` first; or, if the state is elsewhere, pass
  --state. `planapply list -f other.toml --state x.json` shows clusters whose state is elsewhere or
  lost.
""")
    assert run("plan", "-f", "third.toml").err == snapshot("""\
Error: the spec third.toml does not exist
  Write one with `planapply init -f third.toml`, or select one with --file.
""")


def test_details_in_json_repeat_the_options(run: Run, cloud: FakeCloud) -> None:
    Path("planapply.toml").rename("other.toml")
    [problem] = json.loads(run("status", "--json", "-f", "other.toml").out)["diagnostics"]
    assert problem["detail"].startswith("Run `planapply apply -f other.toml` first; or, if")
    assert run("apply", "--auto-approve", "--no-wait", "-f", "other.toml").code == 0
    last = run("destroy", "--json", "-f", "other.toml").out.splitlines()[-1]
    assert "`planapply plan -f other.toml --destroy --out FILE`" in last


def test_init_proposes_the_spec_that_it_wrote(run: Run) -> None:
    assert run("init", "-f", "a b.toml").err == snapshot(
        """\
Wrote a b.toml. Review it, then run `planapply plan -f 'a b.toml'` and
`planapply apply -f 'a b.toml'`.
To keep the state and its lock out of git, add this line to .gitignore: `a\\ b.state.json*`
"""
    )
    assert run("init").err == snapshot(
        """\
Wrote planapply.toml. Review it, then run `planapply plan` and `planapply apply`.
To keep the state and its lock out of git, add this line to .gitignore: `planapply.state.json*`
"""
    )


def test_destroy_proposes_to_plan_a_destruction(run: Run, cloud: FakeCloud) -> None:
    Path("planapply.toml").rename("other.toml")
    assert run("apply", "--auto-approve", "--no-wait", "-f", "other.toml").code == 0
    assert run("destroy", "-f", "other.toml").err == snapshot("""\
Error: cannot ask for approval: stdin is not a terminal
  Pass --auto-approve; or save a plan with `planapply plan -f other.toml --destroy --out FILE`,
  review it, and run `planapply apply -f other.toml FILE`.
""")


@pytest.mark.parametrize("command", ["status", "output", "env", "show", "logs cpu-0"])
def test_commands_before_the_first_apply(run: Run, cloud: FakeCloud, command: str) -> None:
    assert run(*command.split()) == (
        1,
        "",
        snapshot("""\
Error: there is no state at planapply.state.json
  Run `planapply apply` first; or, if the state is elsewhere, pass --state. `planapply list` shows
  clusters whose state is elsewhere or lost.
"""),
    )


def test_destroy_before_the_first_apply(run: Run, cloud: FakeCloud) -> None:
    result = run("destroy")
    assert (result.code, result.err) == (
        1,
        snapshot("""\
Error: there is no state at planapply.state.json
  Nothing was applied with this state. If the state is elsewhere, pass --state. `planapply list`
  shows clusters whose state is elsewhere or lost.
"""),
    )


@pytest.mark.parametrize("command", ["destroy", "status", "unlock 1", "allow", "state list"])
def test_commands_without_a_spec_need_a_state(run: Run, cloud: FakeCloud, command: str) -> None:
    Path("planapply.toml").unlink()
    assert run(*command.split()) == (
        1,
        "",
        snapshot("""\
Error: there is no spec or state at planapply.toml
  Pass the spec with --file, or the state with --state.
"""),
    )


@pytest.mark.parametrize("name", ["x.state.json", "c", "sub/x.toml"])
def test_python_names_the_missing_file(cloud: FakeCloud, name: str) -> None:
    for attempt in (planapply.connect, planapply.Cluster.from_name):
        with pytest.raises(PlanapplyError) as raised:
            attempt(name)
        (problem,) = raised.value.diagnostics
        assert problem.summary == f"there is no spec or state at {name}"
        assert problem.detail == "Pass the path of a spec, or the path or URL of a state."


@pytest.mark.parametrize("command", ["plan", "apply", "validate"])
def test_help_names_the_files_that_a_command_takes(run: Run, folder: Path, command: str) -> None:
    text = " ".join(run(command, "--help").out.split())
    assert "--file SPEC Spec file. " in text
    assert "Spec file, or a state file." in " ".join(run("status", "--help").out.split())
