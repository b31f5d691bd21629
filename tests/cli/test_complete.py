"""Shell completion: of commands, options, nodes, and groups, and never with an error."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.commands import Run
from fake_provider import FakeCloud
from inline_snapshot import snapshot

Complete = Callable[[str], list[str]]
SPEC = """\
[cluster]
name = "demo"
provider = "fake"

[workers.cpu]
count = 2

[workers.burst]
max = 4
"""


@pytest.fixture
def complete(run: Run, monkeypatch: pytest.MonkeyPatch) -> Complete:
    """A function that returns what bash offers for the last word of a line."""

    def complete(line: str) -> list[str]:
        words = line.split(" ")
        with monkeypatch.context() as context:
            context.setenv("_PLANAPPLY_COMPLETE", "complete_bash")
            context.setenv("COMP_WORDS", line)
            context.setenv("COMP_CWORD", str(len(words) - 1))
            code, out, err = run()
        assert (code, err) == (0, "")
        return out.split()

    return complete


def test_commands_and_options(complete: Complete) -> None:
    assert complete("planapply s") == snapshot(
        ["scale", "status", "show", "state", "ssh", "schema"]
    )
    assert complete("planapply state ") == snapshot(["list", "show", "rm", "pull", "push"])
    assert complete("planapply plan --re") == snapshot(
        ["--refresh-only", "--replace", "--refresh-client"]
    )
    assert sorted(complete("planapply -")) == snapshot(
        ["--help", "--install-completion", "--show-completion", "--version", "-h"]
    )


def test_names_of_the_spec(complete: Complete, folder: Path) -> None:
    (folder / "planapply.toml").write_text(SPEC)
    assert complete("planapply logs ") == snapshot(["burst", "cpu", "scheduler", "cpu-0", "cpu-1"])
    assert complete("planapply logs cpu-") == snapshot(["cpu-0", "cpu-1"])
    assert complete("planapply scale ") == snapshot(["burst=0", "burst=4"])
    assert complete("planapply ssh ") == snapshot(["scheduler", "cpu-0", "cpu-1"])
    (folder / "planapply.toml").rename(folder / "other.toml")
    assert complete("planapply logs ") == []
    assert complete("planapply apply -f other.toml --target b") == ["burst"]


def test_names_of_the_state(complete: Complete, run: Run, cloud: FakeCloud, folder: Path) -> None:
    (folder / "planapply.toml").write_text(SPEC.replace("max = 4", "min = 1\nmax = 4"))
    assert run("apply", "--auto-approve", "--no-wait").code == 0
    (folder / "planapply.toml").unlink()
    for state in ("", "--state planapply.state.json ", "-f planapply.state.json "):
        assert complete(f"planapply destroy {state}--target ") == snapshot(
            ["burst", "cpu", "scheduler", "burst-0", "cpu-0", "cpu-1"]
        )
        assert complete(f"planapply scale {state}b") == ["burst=1", "burst=4"]
        assert complete(f"planapply state show {state}cpu") == ["cpu-0", "cpu-1"]


@pytest.mark.parametrize(
    "text",
    [
        "not toml",
        "[workers]\ncpu = 1",
        "workers = 2",
        "[workers.cpu]\ncount = 'many'",
        "{}",
        '{"nodes": 1}',
        "\0",
    ],
)
def test_damaged_files_complete_nothing(complete: Complete, folder: Path, text: str) -> None:
    (folder / "planapply.toml").write_text(text)
    (folder / "planapply.state.json").write_text(text)
    assert complete("planapply scale ") == []
    assert set(complete("planapply logs ")) <= {"cpu", "scheduler"}


def test_nothing_but_names_is_offered(complete: Complete, folder: Path) -> None:
    nodes = {name: {} for name in ("cpu-0", "$(touch x)-0", "`touch x`", "a b-1", "-rf")}
    groups = {"$(touch x)": {"max": 3}, "cpu": {"max": 3}, "a;b": {"count": 1}}
    state = {"nodes": nodes, "spec": {"workers": groups}}
    (folder / "planapply.state.json").write_text(json.dumps(state))
    assert complete("planapply logs ") == ["cpu", "cpu-0"]
    assert complete("planapply scale ") == ["cpu=0", "cpu=3"]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("planapply bogus x", []),
        ("planapply logs 'a", []),
        ("planapply logs --bogus x", []),
        ("planapply state bogus x", []),
        ("planapply plan -f", ["-f"]),
    ],
)
def test_wrong_line_is_no_error(
    complete: Complete, folder: Path, line: str, offered: list[str]
) -> None:
    assert complete(line) == offered


def test_unknown_shell_is_no_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_PLANAPPLY_COMPLETE", "complete_tcsh")
    assert run() == (0, "", "")


IMPORTS = """
import sys
from planapply.cli import main
main()
slow = "asyncio boto3 botocore cryptography dask distributed libcloud obstore rich tornado".split()
sys.stderr.write(str([name for name in slow if name in sys.modules]))
"""


@pytest.mark.parametrize("line", ["planapply ", "planapply logs "])
def test_imports_nothing_slow(environment: dict[str, str], folder: Path, line: str) -> None:
    (folder / "planapply.toml").write_text(SPEC)
    asked = {
        "_PLANAPPLY_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS], env=environment | asked, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "[]")
    assert done.stdout
