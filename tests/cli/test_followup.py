"""Commands that a message proposes mean the spec and the state of the command that printed it."""

from pathlib import Path

import pytest
from cli.commands import Run
from fake_provider import FakeCloud
from inline_snapshot import snapshot

from planapply import followup


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


def test_commands_with_default_options_are_unchanged(run: Run, cloud: FakeCloud) -> None:
    run("status", "--state", "s3.json")
    assert run("status").err == snapshot("""\
Error: there is no state at planapply.state.json
  Nothing has been applied with this state. Pass the spec with --file, or the state with --state.
  `planapply list` shows clusters whose state is elsewhere or lost.
""")


def test_errors_repeat_the_options(run: Run, cloud: FakeCloud) -> None:
    Path("planapply.toml").rename("other.toml")
    assert run("status", "-f", "other.toml").err == snapshot("""\
Error: there is no state at other.state.json
  Nothing has been applied with this state. Pass the spec with --file, or the state with --state.
  `planapply list -f other.toml` shows clusters whose state is elsewhere or lost.
""")
    assert run("status", "-f", "other.toml", "--state", "x.json").err == snapshot("""\
Error: there is no state at x.json
  Nothing has been applied with this state. Pass the spec with --file, or the state with --state.
  `planapply list -f other.toml --state x.json` shows clusters whose state is elsewhere or lost.
""")
    assert run("plan", "-f", "third.toml").err == snapshot("""\
Error: the spec third.toml does not exist
  Write one with `planapply init -f third.toml`, or select one with --file.
""")


def test_init_proposes_the_spec_that_it_wrote(run: Run) -> None:
    assert run("init", "-f", "a b.toml").err == snapshot(
        "Wrote a b.toml. Review it, then run `planapply plan -f 'a b.toml'`.\n"
    )
    assert run("init").err == snapshot(
        "Wrote planapply.toml. Review it, then run `planapply plan`.\n"
    )


def test_destroy_proposes_to_plan_a_destruction(run: Run, cloud: FakeCloud) -> None:
    Path("planapply.toml").rename("other.toml")
    assert run("apply", "--auto-approve", "--no-wait", "-f", "other.toml").code == 0
    assert run("destroy", "-f", "other.toml").err == snapshot("""\
Error: cannot ask for approval: stdin is not a terminal
  Pass --auto-approve; or save a plan with `planapply plan -f other.toml --destroy --out FILE`,
  review it, and run `planapply apply -f other.toml FILE`.
""")
