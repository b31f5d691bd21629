"""Input made to mislead, to hide, or to keep planapply busy."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli.commands import Run
from inline_snapshot import snapshot

from planapply.bootstrap.steps import write_file
from planapply.model.diagnostics import Diagnostic, PlanapplyError
from planapply.model.field_types import is_local_requirement
from planapply.model.quantities import parse_duration, parse_size
from planapply.render.diagnostics import diagnostic_lines
from planapply.render.text import line, to_plain_text

BLANKS = " " * 250_000
SPEC = '[cluster]\nname = "x"\n[workers.cpu]\ncount = 1\n'


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "text", [BLANKS, f"x{BLANKS}@", f"1{BLANKS}!", "@" * 250_000, "\t\n" * 9999]
)
def test_patterns_take_linear_time(text: str) -> None:
    assert not is_local_requirement(text)
    for parse in (parse_duration, parse_size):
        with pytest.raises(ValueError, match="this is not"):
            parse(text)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "key",
    [
        *("cluster.name", "cluster.state", "cluster.ttl", "cluster.provider", "defaults.disk"),
        *("environment.packages", "environment.docker", "environment.python", "scheduler.class"),
        *("defaults.zones", "defaults.image", "nosuch", "cluster.tags.a", "environment.env.A"),
    ],
)
def test_spec_with_many_blanks(run: Run, key: str) -> None:
    Path("planapply.toml").write_text(SPEC)
    for value in (f'"a{BLANKS}!"', f'["a{BLANKS}@"]', f'"{BLANKS}"'):
        path = Path("x.toml")
        path.write_text(f"{key} = {value}\n{SPEC.replace('[cluster]', '[cluster.x]')}")
        result = run("validate", "-f", "x.toml")
        assert result.code == 1
        assert len(result.err) < 10_000


def test_one_hundred_errors_are_printed(run: Run) -> None:
    keys = "".join(f"key{number} = 1\n" for number in range(1234))
    Path("planapply.toml").write_text(SPEC + keys)
    result = run("validate")
    assert result.code == 1
    assert result.err.count("Error: ") == 100
    assert result.err.endswith("\n… and 1,134 more.\n")
    Path("planapply.toml").write_text(SPEC + "".join(keys.splitlines(True)[:100]))
    assert run("validate").err.count("Error: ") == 100
    assert "more." not in run("validate").err


def test_line_breaks_make_no_lines_of_output() -> None:
    name = "cpu-0\nError: all VMs are gone\r\u2028Done."
    assert to_plain_text([line("  ", name, "  running")]).count("\n") == 1
    lines = to_plain_text(diagnostic_lines([Diagnostic(summary=f"node {name} failed")]))
    assert lines == snapshot("Error: node cpu-0�Error: all VMs are gone �Done. failed\n")


@pytest.mark.parametrize("text", ["END\n", "END_\nEND", "a\r\nEND\r\n", "END\x0b\n$(touch hacked)"])
def test_here_document_ends_where_it_should(text: str, tmp_path: Path) -> None:
    script = write_file(f"{tmp_path}/file", text)
    subprocess.run(["bash", "-eu"], input=script.encode(), cwd=tmp_path, check=True)
    assert (tmp_path / "file").read_bytes().rstrip(b"\n") == text.encode().rstrip(b"\n")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("text", ["a\nEND\0\ntouch hacked\n", "\0", "END\0"])
def test_zero_byte_reaches_no_script(text: str) -> None:
    with pytest.raises(PlanapplyError, match="zero byte"):
        write_file("/tmp/file", text)


@pytest.mark.parametrize("module", ["typer", "json", "tomli", "pydantic"])
def test_module_in_the_current_folder_is_not_imported(folder: Path, module: str) -> None:
    (folder / f"{module}.py").write_text("open('hacked', 'w')\nraise SystemExit(3)\n")
    done = subprocess.run(
        [sys.executable, "-m", "planapply", "schema"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)
    assert not Path("hacked").exists()


SECRETS = """\
[cluster]
name = "x"
provider = "ec2"
idle = 1

[provider]
region = "eu-west-1"

[environment]
env = { API_TOKEN = "tiger-1", N = 1, DB = "pg://u:tiger-2@h/" }
setup = ["docker login -p tiger-3", 5, \"""
echo
tiger-4\""", 6]
docker = "u:tiger-5@registry/image"
packages = ["x @ git+https://tiger-6@github.com/a-very-long-name/of-a-repository/that-is-cut", ""]

[scheduler]
options = { auth_token = 7, port = "https://u:tiger-8@h" }
prot = "https://u:tiger-9@h"

[workers.cpu]
count = "https://u:tiger-10@h"
"""


def test_errors_show_no_secrets(run: Run) -> None:
    Path("planapply.toml").write_text(SECRETS)
    result = run("validate")
    assert result.code == 1
    assert "tiger" not in result.err
    assert result.err == snapshot("""\
Error: [cluster] has no key `idle`
 --> planapply.toml:4:1
  |
4 | idle = 1
  | ^^^^
  Remove it. The valid keys are `name`, `provider`, `state`, `security`, `idle_timeout`,
  `no_client_timeout`, `ttl`, `max_cost`, `max_total_cost`, `join_timeout`, `tags`, `protect`.

Error: `environment.env.N` must be a string, not 1
  --> planapply.toml:10:7
   |
10 | env = …
   |       ^
  Write `N = "1"`.

Error: `environment.setup[1]` must be a string
  --> planapply.toml:11:9
   |
11 | setup = …
   |         ^

Error: `environment.setup[3]` must be a string
  --> planapply.toml:13:1
   |
13 | …
   | ^

Error: `environment.docker`: this is not a valid name of a container image
  --> planapply.toml:14:1
   |
14 | docker = …
   | ^^^^^^
  Write the name as `docker pull` accepts it, in lowercase, such as "daskdev/dask:latest" or
  "registry.example.com:5000/team/dask:1.0".

Error: cannot combine `packages` and `docker` in [environment]
  --> planapply.toml:14:1
   |
14 | docker = …
   | ^^^^^^
  Remove one of them.

Error: `environment.packages` cannot be ["x @ git+https://…@github.com/a-very-long-name…: the list
must be non-empty, without empty elements
  --> planapply.toml:15:1
   |
15 | packages = …
   | ^^^^^^^^
  Add an element, or omit the key.

Error: [scheduler] has no key `prot`
  --> planapply.toml:19:1
   |
19 | prot = …
   | ^^^^
  Did you mean `spot`?

Error: `workers.cpu.count` must be a whole number, not "https://…@h"
  --> planapply.toml:22:1
   |
22 | count = …
   | ^^^^^
  Example: `count = 20`.
""")


@pytest.mark.parametrize(
    "text",
    [
        'setup = ["login -p tiger"',
        'setup = [\n  "login -p tiger\n',
        "env = { API_TOKEN = tiger }",
        'requirements = "--index-url https://u:tiger@h\n',
        'password = """\n  tiger\n',
        '"db.passwd" = \'tiger',
    ],
)
def test_file_that_is_not_toml_shows_no_secret(run: Run, text: str) -> None:
    Path("planapply.toml").write_text(f"[environment]\n{text}\n{SPEC}")
    result = run("validate")
    assert result.code == 1
    assert "tiger" not in result.err


@pytest.mark.parametrize(
    "option",
    [
        "environment.env.API_TOKEN=tiger",
        "environment.env.API_TOKEN=5",
        "environment.setup=login -p tiger",
        'environment.setup="login -p tiger"',
        'environment.env.API_TOKEN.x="tiger"',
        'environment.docker="u:tiger@registry/x"',
        'cluster.ttl="https://u:tiger@h"',
    ],
)
def test_option_shows_no_secret(run: Run, option: str) -> None:
    Path("planapply.toml").write_text(SPEC + '[environment]\nenv = { API_TOKEN = "tiger-0" }\n')
    result = run("validate", "--set", option)
    assert (result.code, "tiger" in result.err) == (1, False)
