"""A file that `plan --out` did not write is refused, with one clear error."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from cli.commands import SPEC, Run
from fake_provider import FakeCloud
from inline_snapshot import snapshot


def damage(**changes: Any) -> bytes:
    document = json.loads(Path("good").read_bytes())
    return json.dumps({**document, **changes}).encode()


def changed_config() -> bytes:
    document = json.loads(Path("good").read_bytes())
    next(iter(document["configs"].values()))["size"] = ["huge"]
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda: b"", "Error: the plan file bad is damaged\n  It is not JSON: EOF"),
        (lambda: b"\x00\xff", "Error: the plan file bad is damaged\n  It is not JSON"),
        (lambda: Path("good").read_bytes()[:-20], "Error: the plan file bad is damaged"),
        (lambda: b"[]", "Error: bad is not a plan file\n  To plan again"),
        (lambda: b'{"serial": 1}', "Error: bad is not a plan file\n  It is a state"),
        (
            lambda: damage(format_version=3),
            "cannot read the plan file bad: it was written by another version of planapply",
        ),
        (
            lambda: damage(format_version="1"),
            "cannot read the plan file bad: it was written by another version of planapply",
        ),
        (lambda: damage(serial="x"), "Error: the plan file bad is damaged\n  serial: "),
        (lambda: damage(more=1), "Error: the plan file bad is damaged\n  more: "),
        (lambda: damage(configs={}), "The configurations in it were changed"),
        (changed_config, "The configurations in it were changed"),
    ],
)
def test_invalid_plan_file_is_refused(run: Run, cloud: FakeCloud, content: Any, said: str) -> None:
    run("plan", "--out", "good")
    Path("bad").write_bytes(content())
    for command in (["apply", "bad"], ["show", "bad"]):
        result = run(*command)
        assert (result.code, result.out) == (1, "")
        assert said in result.err
        assert result.err.count("Error:") == 1
    assert not cloud.machines


def test_missing_plan_file_is_reported(run: Run, cloud: FakeCloud) -> None:
    assert "cannot read the plan file none: No such file" in run("apply", "none").err
    assert "cannot read the plan file .: Is a directory" in run("show", ".").err


def test_saved_plan_takes_no_plan_options(run: Run, cloud: FakeCloud) -> None:
    run("plan", "--out", "good")
    refused = run("apply", "good", "--target", "cpu-0").err
    assert "cannot combine a plan file with options of `plan`" in refused
    assert not cloud.machines


def test_plan_of_another_spec_or_cluster_is_refused(run: Run, cloud: FakeCloud) -> None:
    run("plan", "--out", "good")
    Path("planapply.toml").write_text(Path("planapply.toml").read_text() + "processes = 2\n")
    assert "the plan file is stale: the spec has changed" in run("apply", "good").err
    assert not cloud.machines


def test_saving_over_a_plan_replaces_it(run: Run, cloud: FakeCloud, folder: Path) -> None:
    Path("link").symlink_to("good")
    assert run("plan", "--out", "link").code == 0
    first = Path("good").read_bytes()
    assert run("plan", "--out", "link", "--set", "workers.cpu.count=1").code == 0
    assert Path("link").is_symlink()
    assert Path("good").read_bytes() != first
    assert {path.name for path in folder.iterdir()} == {"good", "link", "planapply.toml"}


def test_saved_plan_keeps_its_overrides(run: Run, cloud: FakeCloud) -> None:
    run("plan", "--out", "one", "--set", "workers.cpu.count=1")
    assert run("apply", "one", "--no-wait").code == 0
    assert {vm.name for vm in cloud.live_vms()} == {"scheduler", "cpu-0"}


@pytest.mark.parametrize("place", ["planapply.toml", "planapply.state.json", "notes.txt"])
def test_plan_overwrites_only_a_plan(run: Run, cloud: FakeCloud, place: str) -> None:
    run("apply", "--auto-approve", "--no-wait")
    Path("notes.txt").write_text("mine")
    before = Path(place).read_bytes()
    result = run("plan", "--out", place)
    assert (result.code, Path(place).read_bytes()) == (1, before)
    assert result.err == (
        f"Error: cannot save the plan to {place}: the file exists and is not a plan file\n"
        "  Choose another file with --out.\n"
    )


def test_unwritable_plan_file_is_reported_before_planning(
    run: Run, cloud: FakeCloud, folder: Path
) -> None:
    os.mkdir("folder")
    os.mkfifo("pipe")
    said = {place: run("plan", "--out", place) for place in ("", "folder", "pipe", "none/plan")}
    assert {result[:2] for result in said.values()} == {(1, "")}
    assert "\n".join(result.err for result in said.values()) == snapshot("""\
Error: invalid value for '--out': a file name cannot be empty
  Run `planapply plan --help`.

Error: cannot save the plan to folder: the file exists and is not a plan file
  Choose another file with --out.

Error: cannot save the plan to pipe: the file exists and is not a plan file
  Choose another file with --out.

Error: cannot save the plan to none/plan: No such file or directory
  Choose another file with --out.
""")
    assert sorted(os.listdir()) == ["folder", "pipe", "planapply.toml"]


def test_protect_in_the_spec_is_enough(run: Run, cloud: FakeCloud) -> None:
    run("apply", "--auto-approve", "--no-wait")
    spec = Path("planapply.toml").read_text()
    Path("planapply.toml").write_text(spec.replace("[cluster]", "[cluster]\nprotect = true", 1))
    for command in (["plan", "--destroy"], ["destroy", "--auto-approve"]):
        result = run(*command)
        assert result.code == 1
        assert "the cluster is protected" in result.err
    assert cloud.live_vms()


def test_range_beyond_all_nodes_is_one_error(run: Run, cloud: FakeCloud) -> None:
    result = run("plan", "--target", "cpu-[0-99999999999]")
    assert result.code == 1
    assert result.err.startswith("Error: there is no node 'cpu-[0-99999999999]'\n")


def test_swapped_files_are_reported(run: Run, cloud: FakeCloud) -> None:
    assert run("plan", "--out", "p").code == 0
    assert run("status", "--state", "p").err == snapshot("""\
Error: p is not a planapply state
  It is a plan file. To apply it: planapply apply p
""")
    assert run("plan", "-f", "p").err == snapshot("""\
Error: cannot read the spec p: it is JSON, not TOML
  If it is a state, pass it with --state instead of --file; in Python, use
  `planapply.Cluster.from_name` or `planapply.connect`.
""")


def test_spec_in_place_of_a_plan_file(run: Run, cloud: FakeCloud) -> None:
    assert run("apply", "planapply.toml").err == snapshot("""\
Error: planapply.toml is a spec, not a plan file
  Run `planapply apply -f planapply.toml`.
""")
    Path("broken spec.toml").write_text("[cluster\n")
    assert run("show", "broken spec.toml").err == snapshot("""\
Error: broken spec.toml is a spec, not a plan file
  Run `planapply show -f 'broken spec.toml'`.
""")
    Path("spec").write_text(SPEC)
    assert run("apply", "spec", "--auto-approve").err == snapshot("""\
Error: spec is a spec, not a plan file
  Run `planapply apply -f spec`.
""")
    Path("text").write_text("no plan")
    assert run("apply", "text").err == snapshot("""\
Error: the plan file text is damaged
  It is not JSON: expected ident at line 1 column 2. To plan again: `planapply plan --out FILE`
""")
