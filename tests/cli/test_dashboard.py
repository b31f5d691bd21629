"""The note about a dashboard without plots, and the commands that leave out its URL."""

import json
from pathlib import Path

import pytest
from cli.commands import Run
from cli.test_reading import change
from fake_provider import FakeCloud
from inline_snapshot import snapshot

from planapply.model.node import Environment
from planapply.model.state import Endpoint
from planapply.specfile import dashboard
from planapply.specfile.dashboard import missing_plots

SPEC = '[cluster]\nname = "no-plots"\n[scheduler]\n[workers.cpu]\ncount = 1\n'
NOTE = """\
Note: the dashboard has no plots: this Python has no bokeh 3.1 or newer
  Run `pip install 'bokeh>=3.1'` before the scheduler starts, or set `dashboard = false` in the
  scheduler's options.
"""
LISTED = Environment(packages=("dask[distributed]==2026.8.0",))


@pytest.fixture
def no_bokeh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "bokeh_version", lambda: None)


@pytest.mark.usefixtures("no_bokeh")
def test_validate_and_plan_say_that_this_python_has_no_bokeh(folder: Path, run: Run) -> None:
    spec = folder / "planapply.toml"
    spec.write_text(SPEC)
    valid = "Success! The spec planapply.toml is valid.\n"
    assert run("validate") == (0, valid, NOTE)
    assert run("plan").err == "\n" + NOTE
    # The Python of a pre-commit hook is not the nodes'.
    assert run("validate", "--no-imports") == (0, valid, "")
    spec.write_text(SPEC.replace("[workers", "options = { dashboard = false }\n[workers"))
    assert run("validate") == (0, valid, "")
    assert run("plan").err == ""


def test_validate_names_the_environment_of_a_cloud(cloud: FakeCloud, run: Run) -> None:
    spec = Path("planapply.toml")
    spec.write_text(f'{spec.read_text()}[environment]\npackages = ["dask[distributed]"]\n')
    assert run("validate").err == snapshot("""\
Note: the dashboard has no plots: the nodes' environment does not name bokeh
  Add "bokeh>=3.1" to the packages under [environment], or set `dashboard = false` in the
  scheduler's options.
""")
    spec.write_text(spec.read_text().replace('"dask[', '"bokeh", "dask['))
    assert run("validate").err == ""


def test_no_class_is_imported_for_a_spec_that_is_not_trusted(folder: Path, run: Run) -> None:
    (folder / "hostile.py").write_text("import os; os.mkdir('imported')")
    environment = f"[environment]\nenv = {{ PYTHONPATH = '{folder}' }}\n"
    (folder / "planapply.toml").write_text(f"{SPEC}class = 'hostile.Worker'\n{environment}")
    assert run("validate", "--no-imports").code == 0
    assert not (folder / "imported").exists()
    assert run("validate").code == 1
    assert (folder / "imported").exists()


def test_no_command_prints_the_url_of_a_dashboard_without_plots(cloud: FakeCloud, run: Run) -> None:
    spec = Path("planapply.toml")
    spec.write_text(f'{spec.read_text()}[environment]\npackages = ["dask[distributed]"]\n')
    assert run("apply", "--auto-approve", "--no-wait").code == 0
    # As an older version recorded it.
    change(endpoint=Endpoint(private="tcp://127.0.0.1:1", dashboard="http://127.0.0.1:2/status"))
    shown = [run("status"), run("status", "--json"), run("output"), run("output", "--json")]
    shown += [run("show"), run("show", "--json"), run("apply", "--auto-approve", "--no-wait")]
    assert [result.code for result in shown] == [0] * 7
    assert not [result.out for result in shown if "http://127.0.0.1:2" in "".join(result[1:])]
    assert json.loads(shown[3].out)["dashboard_url"] is None
    assert shown[0].out.splitlines()[-3:] == snapshot(
        [
            "Cost:       4.60 USD/h, 0.00 USD so far (list prices of 2025-03-02)",
            'The dashboard has no plots: the nodes\' environment does not name bokeh. Add "bokeh>=3.1" to the',
            "packages under [environment], or set `dashboard = false` in the scheduler's options.",
        ]
    )
    assert run("output", "dashboard_url") == (
        1,
        "",
        snapshot("""\
Error: the output 'dashboard_url' has no value: the dashboard has no plots: the nodes' environment
does not name bokeh
  Add "bokeh>=3.1" to the packages under [environment], or set `dashboard = false` in the
  scheduler's options.
"""),
    )


@pytest.mark.parametrize(
    ("environment", "is_missing"),
    [
        (Environment(), False),  # the image may have it
        (LISTED, True),
        (Environment(packages=("dask[distributed]", "Bokeh >=3")), False),
        (Environment(packages=("dask[complete]==2026.8.0",)), False),
        (Environment(packages=("dask[dataframe, diagnostics]",)), False),
        (Environment(packages=("dask", "panel==1.8")), False),
        (Environment(packages=("dask", "mine @ git+https://host/mine")), False),
        (Environment(requirements="dask[distributed]\n--index-url https://host/\n"), True),
        (Environment(requirements="dask[distributed]  # not bokeh\n"), True),
        (Environment(requirements="-r others.txt\n"), False),
        (Environment(requirements="dask\nbokeh\n"), False),
        (Environment(docker="daskdev/dask:latest"), False),
        (LISTED.model_copy(update={"setup": ("pip install bokeh",)}), False),
    ],
)
def test_a_note_only_where_bokeh_is_certainly_not_named(
    environment: Environment, is_missing: bool
) -> None:
    assert (missing_plots({}, environment, provider="ec2") is not None) is is_missing
    assert missing_plots({"dashboard": False}, environment, provider="ec2") is None


@pytest.mark.parametrize(
    ("version", "is_missing"),
    [("3.1.0", False), ("10.0rc1", False), ("3.0.3", True), ("2.4", True), (None, True)],
)
def test_version_of_bokeh_in_this_python(
    monkeypatch: pytest.MonkeyPatch, version: str | None, is_missing: bool
) -> None:
    monkeypatch.setattr(dashboard, "bokeh_version", lambda: version)
    assert (missing_plots({}, LISTED, provider="local") is not None) is is_missing
