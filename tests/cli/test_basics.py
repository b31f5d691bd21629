"""Help, usage errors, and the commands that need no state."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from cli.commands import COMMAND, SPEC, Run, without_installed
from fake_provider import FakeCloud
from inline_snapshot import snapshot

import planapply
from planapply.cli.app import COMMANDS
from planapply.model.field_types import MAX_NAME_LENGTH


def test_help(run: Run) -> None:
    assert run("--help") == (
        0,
        snapshot("""\
Usage: planapply [OPTIONS] COMMAND [ARGS]...

  Terraform-like plan and apply for Dask clusters on cloud VMs.

Options:
  --version             Print the version.
  --install-completion  Install completion for the current shell.
  --show-completion     Show completion for the current shell, to copy it or
                        customize the installation.
  -h, --help            Show this message and exit.

Commands:
  init       Write a commented starter spec.
  validate   Check the spec offline.
  plan       Show the changes that apply would make.
  apply      Create or change the cluster to match the spec.
  destroy    Terminate the cluster and remove everything created for it.
  scale      Change the number of nodes of elastic groups.
  watch      Keep the cluster as last applied: launch lost nodes again.
  status     Show nodes, VMs, joined workers, drift, and cost.
  output     Print the scheduler address, the dashboard URL, and others.
  env        Print shell exports so that distributed.Client() connects.
  history    Show the last changes of the cluster.
  show       Show the state or a saved plan, without secrets.
  state      Inspect or edit the state: list, show, rm, pull, push.
  list       List every cluster of this account, found by the VMs' tags.
  recover    Rebuild a lost state from the VMs' tags.
  logs       Print or follow the logs of nodes.
  ssh        Log in to a node.
  allow      Allow another network to reach the scheduler.
  unlock     Release an abandoned state lock.
  providers  List the installed providers.
  schema     Print the JSON Schema of the spec.
"""),
        "",
    )
    assert run() == (1, "", run("--help").out)


OF_STATE = [f"state {command}" for command in ("list", "show", "rm", "pull", "push")]


@pytest.mark.parametrize("command", [*(name for name in COMMANDS if name != "state"), *OF_STATE])
def test_every_command_has_help(run: Run, command: str) -> None:
    result = run(*command.split(), "-h")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"Usage: planapply {command} [OPTIONS]")
    assert "-f, --file SPEC" in result.out
    for line in result.out.splitlines():
        assert line.count("`") % 2 == 0, "inline code is never wrapped"
        assert not line.endswith("-"), "nor an option"


def test_help_of_plan(run: Run) -> None:
    assert run("plan", "--help").out == snapshot("""\
Usage: planapply plan [OPTIONS]

  Show the changes that apply would make.

  Changes nothing, neither in the cloud nor in the state.

Options:
  -f, --file SPEC          Spec file.  [default: planapply.toml]
  --out FILE               Save the plan to a file, for `apply FILE`.
  --destroy                Plan to destroy the whole cluster.
  --no-refresh             Trust the state; do not query the cloud.
  --refresh-only           Show only how the state differs from what exists.
  --target NODE            Limit to this node, group or range, such as
                           'cpu-[0-3]'. Repeatable.
  --replace NODE           Force replacement of this node, group or range.
                           Repeatable.
  --refresh-client         Give nodes with `packages = "client"` the packages
                           of this Python.
  --detailed-exitcode      Exit with code 2 if there are changes.
  --json                   Print JSON, for programs.
  --markdown               Print the plan as Markdown, for a pull request.
  --set KEY=VALUE          Override a value of the spec: a dotted key and a
                           TOML value. Repeatable.
  --state PATH_OR_URL      Location of the state, overriding the spec: a path,
                           s3://, gs:// or az://.
  --lock-timeout DURATION  Time to wait for a state lock held by another
                           process, such as "30 s". Commands that change
                           nothing lock the state only if this is given.
  -h, --help               Show this message and exit.
""")


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"planapply {planapply.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            "paln",
            "Error: no such command: 'paln'. Did you mean 'plan'?\n  Run `planapply --help`.\n",
        ),
        ("--bogus", "Error: no such option: --bogus\n  Run `planapply --help`.\n"),
        ("plan --taget x", "Error: no such option: --taget (Possible options: "),
        (
            "plan extra",
            "Error: got unexpected extra argument(s) (extra)\n  Run `planapply plan --help`.\n",
        ),
        ("ssh", "Error: missing argument 'NODE'\n  Run `planapply ssh --help`.\n"),
        (
            "apply --parallelism 0",
            "Error: invalid value for '--parallelism': it must be a whole number of at least 1, not 0\n",
        ),
        (
            "destroy --parallelism 1.5",
            "Error: invalid value for '--parallelism': it must be a whole number of at least 1, not 1.5\n",
        ),
        (
            "logs x -n ten",
            "Error: invalid value for '--lines' / '-n': it must be a whole number of at least 1, not ten\n",
        ),
        (
            "plan --lock-timeout soon",
            "Error: invalid value for '--lock-timeout': this is not a duration.",
        ),
    ],
)
def test_usage_errors(run: Run, arguments: str, said: str) -> None:
    result = run(*arguments.split())
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(said)


@pytest.mark.parametrize(
    "command",
    [
        *(
            "init",
            "validate",
            "plan",
            "apply",
            "destroy",
            "status",
            "output",
            "env",
            "show",
            "history",
        ),
        *("state list", "list", "recover", "logs x", "ssh x", "allow", "unlock x"),
    ],
)
def test_spec_with_an_address_is_refused(run: Run, command: str) -> None:
    said = {name: run(*command.split(), "-f", name) for name in ("", "s3://states/x.json")}
    assert {result[:2] for result in said.values()} == {(1, "")}
    help = f"  Run `planapply {command.removesuffix(' x')} --help`.\n"
    assert {name: result.err.removesuffix(help) for name, result in said.items()} == snapshot(
        {
            "": "Error: invalid value for '--file' / '-f': a file name cannot be empty\n",
            "s3://states/x.json": """\
Error: invalid value for '--file' / '-f': 's3://states/x.json' is a URL, and a spec is a file; pass
the location of a state with --state
""",
        }
    )


@pytest.mark.parametrize("command", ["show", "apply", "state pull", "state push"])
def test_empty_file_name_is_refused(run: Run, cloud: FakeCloud, command: str) -> None:
    result = run(*command.split(), "")
    argument = "PLANFILE" if "state" not in command else "FILE"
    assert result == (
        1,
        "",
        f"Error: invalid value for '{argument}': a file name cannot be empty\n"
        f"  Run `planapply {command} --help`.\n",
    )


def test_folder_in_place_of_a_file_is_refused(run: Run, cloud: FakeCloud, folder: Path) -> None:
    commands = (
        "status -f .",
        "plan -f /",
        "recover x --provider fake -f .",
        "state pull .",
        "state push .",
        "show .",
        "plan --state .",
        "plan --state ''",
    )
    said = {command: run(*shlex.split(command)) for command in commands}
    assert {result[:2] for result in said.values()} == {(1, "")}
    assert "\n".join(f"{c}\n{result.err}" for c, result in said.items()) == snapshot("""\
status -f .
Error: the spec . is a folder
  Name a file.

plan -f /
Error: the spec / is a folder
  Choose a file.

recover x --provider fake -f .
Error: the spec . is a folder
  Name a file.

state pull .
Error: . is a folder
  Pass the path of a file.

state push .
Error: . is a folder
  Pass the path of a file.

show .
Error: cannot read the plan file .: Is a directory
  To create a plan file: `planapply plan --out FILE`

plan --state .
Error: cannot read the state .: not a regular file
  Choose another location with `state` in the spec, or with --state.

plan --state ''
Error: '' is not a valid location for a state
  Use a path, s3://bucket/key, gs://bucket/key or az://container/key.
""")
    assert not cloud.calls


@pytest.mark.parametrize(
    ("folder_name", "name"),
    [
        ("genomics", "genomics"),
        ("My Project_2 (copy)", "My-Project-2-copy"),
        ("Größe-", "Groe"),
        ("数据", "example"),
        ("-" * 9, "example"),
        ("x" * 200, "x" * MAX_NAME_LENGTH),
    ],
)
def test_init_names_the_cluster_after_its_folder(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, folder_name: str, name: str
) -> None:
    (folder / folder_name).mkdir()
    assert run("init", "-f", f"{folder_name}/planapply.toml").code == 0
    monkeypatch.chdir(folder / folder_name)
    assert f'name = "{name}"\n' in Path("planapply.toml").read_text()
    assert run("validate").code == 0
    Path("planapply.toml").unlink()
    assert run("init").code == 0
    assert f'name = "{name}"\n' in Path("planapply.toml").read_text()


def test_init_proposes_a_gitignore_line_once(run: Run, folder: Path) -> None:
    assert run("init").err == snapshot("""\
Wrote planapply.toml. Review it, then run `planapply plan` and `planapply apply`.
To keep the state and its lock out of git, add this line to .gitignore: `planapply.state.json*`
""")
    pattern = "planapply.state.json*"
    subprocess.run(["git", "init", "-q"], check=True)
    for name in ("planapply.state.json", "planapply.state.json.lock"):
        Path(name).touch()
    Path(".gitignore").write_text(f"other\n{pattern}\n")
    shown = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True)
    assert shown.stdout == "?? .gitignore\n?? planapply.toml\n"
    Path("planapply.toml").unlink()
    assert run("init").err == snapshot(
        "Wrote planapply.toml. Review it, then run `planapply plan` and `planapply apply`.\n"
    )


def test_init_writes_a_valid_spec_and_never_overwrites(run: Run, cloud: FakeCloud) -> None:
    assert run("init", "-f", "new.toml") == (
        0,
        "",
        snapshot("""\
Wrote new.toml. Review it, then run `planapply plan -f new.toml` and `planapply apply -f new.toml`.
To keep the state and its lock out of git, add this line to .gitignore: `new.state.json*`
"""),
    )
    assert run("validate", "-f", "new.toml") == (0, "Success! The spec new.toml is valid.\n", "")
    written = Path("new.toml").read_bytes()
    assert run("init", "-f", "new.toml") == (
        1,
        "",
        snapshot("""\
Error: new.toml exists already
  It is never overwritten. Choose another file with --file, or remove this one first.
"""),
    )
    assert Path("new.toml").read_bytes() == written
    assert run("init", "-f", ".").err == (
        "Error: cannot write .: it is a folder\n  Name a file with --file.\n"
    )
    assert run("init", "-f", "fake.toml", "--provider", "fake").code == 0
    assert 'provider = "fake"' in Path("fake.toml").read_text()
    result = run("init", "-f", "x.toml", "--provider", "fakee")
    assert (result.code, without_installed(result.err)) == (
        1,
        snapshot("""\
Error: unknown provider 'fakee'
  Did you mean 'fake'? Installed: …
"""),
    )
    assert run("init", "-f", "none/x.toml").err.startswith(
        "Error: cannot write none/x.toml: its folder does not exist\n"
    )


def test_validate_warns_and_checks_classes(run: Run, cloud: FakeCloud) -> None:
    Path("local.toml").write_text(
        '[cluster]\nname = "x"\n[workers.cpu]\ncount = 1\nsize = "big"\nclass = "distributed.Nany"\n'
    )
    assert run("validate", "-f", "local.toml") == (
        1,
        "",
        snapshot("""\
Error: the class `distributed.Nany` is not a worker
 --> local.toml:6:1
  |
6 | class = "distributed.Nany"
  | ^^^^^
  Did you mean `distributed.Nanny`?
"""),
    )
    Path("wrong.toml").write_text(
        '[cluster]\nname = "x"\n[provider]\nfoldr = "logs"\n[scheduler]\nclass = "Scheduler"\n'
        '[workers.cpu]\ncount = -1\nclass = "not_there.Worker"\n'
    )
    wrong = run("validate", "-f", "wrong.toml")
    assert wrong == (
        1,
        "",
        snapshot("""\
Error: [provider] has no key `foldr`
 --> wrong.toml:4:1
  |
4 | foldr = "logs"
  | ^^^^^
  Did you mean `folder`?

Error: `scheduler.class` cannot be "Scheduler": this is not a class in dotted form
 --> wrong.toml:6:1
  |
6 | class = "Scheduler"
  | ^^^^^
  Did you mean `distributed.Scheduler`? Write the module and the name of the class, such as
  "distributed.Nanny".

Error: `workers.cpu.count` must be at least 0, not -1
 --> wrong.toml:8:1
  |
8 | count = -1
  | ^^^^^
  Example: `count = 20`.

Error: cannot import the class `not_there.Worker`: there is no module `not_there`
 --> wrong.toml:9:1
  |
9 | class = "not_there.Worker"
  | ^^^^^
  Install the module, or add its folder to PYTHONPATH.
"""),
    )
    assert run("plan", "-f", "wrong.toml") == wrong
    result = run("validate", "-f", "local.toml", "--set", 'workers.cpu.class="distributed.Worker"')
    assert result == (
        0,
        "Success! The spec local.toml is valid.\n",
        snapshot("""\
Warning: provider `local` ignores `workers.cpu.size`
 --> local.toml:5:1
  |
5 | size = "big"
  | ^^^^
  Remove the key: it has no effect.
"""),
    )


def test_schema(run: Run, cloud: FakeCloud) -> None:
    result = run("schema")
    assert result.code == 0
    schema = json.loads(result.out)
    assert schema["title"] == "planapply spec"
    assert {"local", "fake"} <= schema["$defs"].keys()


def test_providers_lists_loadable_and_broken_plugins(
    run: Run, cloud: FakeCloud, site: Path
) -> None:
    entries = site / "fake_planapply-1.dist-info" / "entry_points.txt"
    entries.write_text(entries.read_text() + "broken = no_such_module:PLUGIN\n")
    planapply.catalog._entries.cache_clear()
    result = run("providers")
    assert (result.code, result.err) == (0, "")
    rows = dict(line.split(maxsplit=1) for line in result.out.splitlines())
    assert rows["fake"] == "a cloud in memory"
    assert rows["local"] == "processes on this machine"
    assert rows["broken"] == snapshot(
        "cannot import the provider 'broken': ModuleNotFoundError: No module named 'no_such_module'"
    )
    Path("planapply.toml").write_text(SPEC.replace('"fake"', '"broken"'))
    assert "cannot import the provider 'broken'" in run("plan").err


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe", b"a = " + b"[" * 100_000, b"", b"a" * (9 << 20), b"[cluster]\nname = \x00"],
)
def test_invalid_spec_is_reported_by_every_command(
    run: Run, cloud: FakeCloud, content: bytes
) -> None:
    Path("planapply.toml").write_bytes(content)
    for command in ("validate", "plan", "apply", "status", "output", "env", "show", "logs cpu-0"):
        result = run(*command.split())
        assert (result.code, result.out) == (1, "")
        assert result.err.startswith("Error: ")
        assert "Traceback" not in result.err


def test_python_module_can_be_run(environment: dict[str, str]) -> None:
    done = subprocess.run([*COMMAND, "--version"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"planapply {planapply.__version__}\n")


def test_bug_is_reported_as_a_bug(
    run: Run, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planapply.ops.plan.add_cost", lambda *arguments: 1 / 0)
    result = run("plan")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("Traceback (most recent call last):")
    assert result.err.split("ZeroDivisionError: division by zero\n")[1] == snapshot("""\
Error: this is a bug in planapply 0.1.0: ZeroDivisionError('division by zero')
  Everything that was launched is recorded in the state. Please report this bug, with the traceback
  above.
""")


def test_plugin_bug_is_attributed_to_the_plugin(
    environment: dict[str, str], site: Path, folder: Path
) -> None:
    (site / "buggy.py").write_text(
        "from cli.fake_plugin import PLUGIN, Settings\n"
        "from planapply.provider import Plugin\n"
        "PLUGIN = Plugin('buggy', 'x', Settings, lambda settings: 1 / 0)\n"
    )
    entries = site / "fake_planapply-1.dist-info" / "entry_points.txt"
    entries.write_text("[planapply.providers]\nbuggy = buggy:PLUGIN\n")
    Path("planapply.toml").write_text(SPEC.replace('"fake"', '"buggy"'))
    done = subprocess.run([*COMMAND, "plan"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == snapshot("""\
Error: the provider 'buggy' (buggy:PLUGIN of the package fake-planapply) failed in `connect`:
ZeroDivisionError: division by zero
  This is a bug in that package; please report it to its maintainers.
""")


STARTUP = """
import sys
from planapply.cli import main
code = main(sys.argv[1:])
slow = "asyncio boto3 botocore cryptography dask distributed libcloud obstore rich tornado".split()
sys.stderr.write(f"{code} {[name for name in slow if name in sys.modules]}")
"""


@pytest.mark.parametrize(
    "arguments",
    ["--help", "plan --help", "apply --help", "validate", "plan", "plan --json", "show"],
)
def test_startup_imports_nothing_slow(
    environment: dict[str, str], folder: Path, arguments: str
) -> None:
    Path("planapply.toml").write_text(
        '[cluster]\nname = "x"\n[scheduler.options]\ndashboard = false\n[workers.cpu]\ncount = 2\n'
    )
    Path("planapply.state.json").write_text(
        '{"format_version": 1, "lineage": "l", "serial": 1, "cluster": "x", "provider": "local"}'
    )
    done = subprocess.run(
        [sys.executable, "-c", STARTUP, *arguments.split()],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stderr == "0 []"


def test_output_works_in_an_ascii_locale(environment: dict[str, str], folder: Path) -> None:
    Path("planapply.toml").write_text('[cluster]\nname = "ü"\n')
    environment |= {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run([*COMMAND, "plan"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith('Error: `cluster.name` cannot be "?"')
    assert os.listdir(folder) == ["planapply.toml"]
