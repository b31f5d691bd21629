"""Positions in a file, locations of states, classes, the starter, the JSON Schema, and the reference."""

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import jsonschema
import planapply_local
import pytest
import tomli
from hypothesis import given
from inline_snapshot import snapshot
from pydantic import ValidationError
from specs import CLOUD, LOCAL, Settings, find_plugin, format_diagnostic
from strategies import DOCUMENTS

from planapply.model.diagnostics import PlanapplyError
from planapply.model.environment_settings import EnvironmentSettings
from planapply.provider import Plugin
from planapply.specfile import find_state_location, json_schema, load, render_starter
from planapply.specfile.locate import find_nearest, locate

PLUGINS = [LOCAL, CLOUD, planapply_local.PLUGIN]


@pytest.mark.parametrize(
    ("text", "path", "place"),
    [
        ("a = 1", ("a",), (1, 1)),
        ("\n  a = 1", ("a",), (2, 3)),
        ("a.b . c = 1", ("a", "b", "c"), (1, 7)),
        ("a.b = 1\na.c = 2", ("a", "c"), (2, 3)),
        ("[a]\nb = 1", ("a",), (1, 2)),
        ("[ a . b ]\nc = 1", ("a", "b"), (1, 7)),
        ("[a.b]\n[a]\nc = 1", ("a",), (1, 2)),
        ('[a]\n"b.c" = 1', ("a", "b.c"), (2, 1)),
        ('["a]"]\nb = 1', ("a]", "b"), (2, 1)),
        ("'a' = 1", ("a",), (1, 1)),
        ('"\\u0061" = 1', ("a",), (1, 1)),
        ('"" = 1', ("",), (1, 1)),
        ("a = { b = 1, c = { d = 2 } }", ("a", "c", "d"), (1, 20)),
        ("a = { b.c = 1, b.d = 2 }", ("a", "b", "d"), (1, 18)),
        ("a = [1,\n  2, # x\n  3]", ("a", 2), (3, 3)),
        ("a = [{b = 1}, {c = 2}]", ("a", 1, "c"), (1, 16)),
        ("a = [[1], [2, 3]]", ("a", 1, 1), (1, 15)),
        ("[[a]]\nb = 1\n[[a]]\nc = 2", ("a", 1, "c"), (4, 1)),
        ("[[a]]\n[[a]]\n[a.b]\nc = 1", ("a", 1, "b", "c"), (4, 1)),
        ("[[a]]\n[[a.b]]\n[[a]]\n[[a.b]]\nc = 1", ("a", 1, "b", 0, "c"), (5, 1)),
        ('a = """\nb = 1\n"""\nb = 2', ("b",), (4, 1)),
        ('a = """x\\"""" \nb = 2', ("b",), (2, 1)),
        ('a = """"x"""""\nb = 2', ("b",), (2, 1)),
        ("a = '''\n[b]\n''' # c = 1\nc = 2", ("c",), (4, 1)),
        ("a = '\\'\nb = 2", ("b",), (2, 1)),
        ("# a = 1\na = 2", ("a",), (2, 1)),
        ("a = 1 # b = 2\nb = 3", ("b",), (2, 1)),
        ("a = 1979-05-27 07:32:00\nb = 1", ("b",), (2, 1)),
        ("a = [1.5, -1e+3]\nb = 1", ("a", 1), (1, 11)),
        ("1.2 = 3", ("1", "2"), (1, 3)),
        ("a = 1\r\nb = 2", ("b",), (2, 1)),
        ("a = '''x\r\ny'''\r\nb = 2", ("b",), (3, 1)),
        ("a = {\n b = 1, # c\n d = 2,\n}", ("a", "d"), (3, 2)),
        ("a = ['''x\n''', 2]", ("a", 1), (2, 6)),
        ("a = [1\n , 2]", ("a", 1), (2, 4)),
        ('a = """x""""\nb = "2"', ("b",), (2, 1)),
        ("a = '''x''''\nb = '2'", ("b",), (2, 1)),
    ],
)
def test_key_is_located(text: str, path: tuple[str | int, ...], place: tuple[int, int]) -> None:
    tomli.loads(text)
    assert locate(text)[path] == place


def test_missing_key_is_located_at_its_table() -> None:
    places = locate("a = 1\n[b.c]\nd = 1")
    assert find_nearest(places, ("b", "c", "x", "y")) == (2, 4)
    assert find_nearest(places, ("x",)) == (1, 1)


def test_state_location(tmp_path: Path) -> None:
    spec = tmp_path / "one.toml"

    def state(cluster: str, *overrides: str) -> str:
        spec.write_text(f"{cluster}\n[workers.cpu]\nnonsense = 1")
        return find_state_location(spec, overrides).replace(str(tmp_path), "/specs")

    assert state("[cluster]") == "/specs/one.state.json"
    assert state('[cluster]\nstate = "x/y.json"') == "/specs/x/y.json"
    assert state('[cluster]\nstate = "/y.json"') == "/y.json"
    assert state('[cluster]\nstate = "s3://b/y.json"') == "s3://b/y.json"
    assert state("", 'cluster.state="gs://b/z"') == "gs://b/z"
    assert state('[cluster]\nstate = "~/y.json"') == str(Path.home() / "y.json")
    spec.write_text('{"format_version": 1}')
    assert find_state_location(spec) == str(spec)
    spec.unlink()
    with pytest.raises(PlanapplyError, match="there is no spec or state at"):
        find_state_location(spec)
    (tmp_path / "one.state.json").write_text("{}")
    assert find_state_location(spec) == str(tmp_path / "one.state.json")


@pytest.mark.parametrize("state", ["1", '""', '"ftp://x/y"', '"s3://x"', '"s3:///y"', '"a\\nb"'])
def test_invalid_state_location_is_refused(tmp_path: Path, state: str) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text(f'[cluster]\nname = "a"\nstate = {state}\n')
    for read in (find_state_location, lambda path: load(path, find_plugin)):
        with pytest.raises(PlanapplyError, match=r"cluster\.state") as raised:
            read(spec)
        [found] = raised.value.diagnostics
        assert found.source is not None
        assert found.source.line == 3


def test_unimportable_classes_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine_for_a_test.py").write_text(
        "from distributed import Worker\nclass Special(Worker): ...\nspecial = object.__new__(Special)\n"
    )
    (tmp_path / "broken_for_a_test.py").write_text("raise SystemExit(3)\n")
    classes = {
        "a": "distributed.Nanny",
        "b": "mine_for_a_test.Special",
        "c": "mine_for_a_test.Spezial",
        "d": "mine_for_a_test.special",
        "e": "broken_for_a_test.Worker",
        "f": "not_there_for_a_test.deep.Worker",
        "g": "distributed.Nany",
        "h": "dask.distributed.Worker",
    }
    groups = "".join(f'[workers.{k}]\ncount = 1\nclass = "{v}"\n' for k, v in classes.items())
    (tmp_path / "spec.toml").write_text(f'[cluster]\nname = "x"\n{groups}')

    def errors(*overrides: str) -> str:
        with pytest.raises(PlanapplyError) as raised:
            load(tmp_path / "spec.toml", find_plugin, overrides, import_classes=True)
        return "\n".join(format_diagnostic(found, tmp_path) for found in raised.value.diagnostics)

    assert errors() == snapshot("""\
line 11, column 1: class = "mine_for_a_test.Spezial"
cannot import the class `mine_for_a_test.Spezial`: `mine_for_a_test` has no class `Spezial`
  Did you mean `mine_for_a_test.Special`?

line 14, column 1: class = "mine_for_a_test.special"
cannot import the class `mine_for_a_test.special`: it is not a class, but of type `Special`
  Did you mean `mine_for_a_test.Special`?

line 17, column 1: class = "broken_for_a_test.Worker"
cannot import the class `broken_for_a_test.Worker`: SystemExit: 3
  Fix the module: `import broken_for_a_test` fails in Python too.

line 20, column 1: class = "not_there_for_a_test.deep.Worker"
cannot import the class `not_there_for_a_test.deep.Worker`: there is no module `not_there_for_a_test`, which `not_there_for_a_test.deep` needs
  Install the module, or add its folder to PYTHONPATH.

line 23, column 1: class = "distributed.Nany"
the class `distributed.Nany` is not a worker
  Did you mean `distributed.Nanny`?
""")
    keep = [f'workers.{k}.class="distributed.Worker"' for k in "cdefg"]
    assert errors('workers.a.class="distributed.Nany"', *keep) == snapshot("""\
--set workers.a.class="distributed.Nany": the class `distributed.Nany` is not a worker
  Did you mean `distributed.Nanny`?
""")
    elsewhere = 'cluster.provider="cloud"'
    load(tmp_path / "spec.toml", find_plugin, [elsewhere], import_classes=True)


# The examples of github.com/distribution/reference.
IMAGES = [
    *(
        "x",
        "daskdev/dask",
        "daskdev/dask:latest",
        "a__b/c.d-e--f:V1_2.3-x",
        "localhost/x",
        "UPPER/x",
    ),
    *("localhost:5000/x:1", "registry.example.com:443/team/sub/dask", "10.0.0.1/x", "[::1]:5000/x"),
    *(f"x@sha256:{'0' * 64}", f"r.io/a:1@sha512+b64:{'f' * 64}", "x:" + "t" * 128),
]
NO_IMAGES = [
    *("Dask", "daskdev/Dask", "daskdev/dask:", "daskdev/dask:a:b", ":latest", "/x", "x/", "a//b"),
    *(
        "-x",
        "x-",
        "a..b",
        "a___b",
        "daskdev /dask",
        "x ",
        "x\n",
        "",
        "https://r.io/x",
        "docker://x",
    ),
    *("x:-1", "x@sha256:00", "x@0123456789abcdef0123456789abcdef", "r.io:port/x", "r..io/X/y"),
    *("x:" + "t" * 129, "é", "$(reboot)"),
]


@pytest.mark.parametrize("name", [*IMAGES, *NO_IMAGES])
def test_container_image_names(name: str) -> None:
    settings = {"docker": name}
    if name in IMAGES:
        assert EnvironmentSettings.model_validate(settings).docker == name
    else:
        with pytest.raises(ValidationError, match="not a valid name of a container image"):
            EnvironmentSettings.model_validate(settings)


@pytest.mark.parametrize("plugin", PLUGINS, ids=["local", "cloud", "planapply_local"])
def test_starter_and_each_of_its_lines_are_valid(tmp_path: Path, plugin: Plugin) -> None:
    (tmp_path / "requirements.txt").write_text("dask\n")
    lines = render_starter(plugin).splitlines()
    proposals = [i for i, line in enumerate(lines) if re.match(r"# [a-z_]+ = ", line)]
    path = tmp_path / "spec.toml"
    for uncommented in [[], *([i] for i in proposals)]:
        if uncommented and lines[uncommented[0]].startswith("# python = "):
            uncommented.insert(0, uncommented[0] - 1)  # which depends on the step above
        chosen = [
            line.removeprefix("# ") if i in uncommented else line for i, line in enumerate(lines)
        ]
        path.write_text("\n".join(chosen))
        _, warnings = load(path, lambda name: plugin)
        assert [w.summary for w in warnings if "spot VM" not in w.summary] == []


def test_starter_has_every_key(tmp_path: Path) -> None:
    every = {**json_schema([LOCAL])["$defs"]}
    keys = {key for table in every.values() for key in table["properties"]}
    plugin = Plugin("local", "", Settings, LOCAL.connect)
    missing = {key for key in keys if f"{key} = " not in render_starter(plugin)}
    assert missing == {"folder", "region", "allow_from"}  # the provider's own setting


def test_starter_text() -> None:
    assert render_starter(planapply_local.PLUGIN) == snapshot("""\
#:schema planapply.schema.json
# For editors: `planapply schema > planapply.schema.json` writes the file that the line above names.

# A Dask cluster: `planapply plan` shows what would change, `planapply apply` changes it.
# A commented key is optional; its value is an example. All keys: docs/spec.md, `planapply schema`.

[cluster]
name = "example"
provider = "local"
# state = "s3://bucket/example.json"  # or gs://, az://, a path; default: a file next to this one
# security = "tls"                    # "tls" or "none"; default: "none"
# idle_timeout = "30 min"             # an idle cluster terminates itself
# no_client_timeout = "2 h"           # a cluster that has had no client for this long, too
# ttl = "12 h"                        # VMs of this age terminate themselves
# max_cost = 40.0                     # USD per hour; a plan that exceeds it is an error
# max_total_cost = 500.0              # USD over the cluster's life; refuses plans that would exceed it
# join_timeout = "10 min"             # how long apply waits for a launched node to join
# tags = { team = "bio" }             # of every VM and supporting resource
# protect = true                      # refuse plans that destroy or replace a node

[provider]
# folder = "~/planapply"      # for logs and scratch files; default: in your state folder

[defaults]                            # for the scheduler and every group
# tags = { stage = "test" }

[environment]                         # Python on the nodes; a change replaces them
# env = { OMP_NUM_THREADS = "1" }

[scheduler]
# class = "distributed.Scheduler"
# options = { dashboard = false }     # arguments of the class

[workers.cpu]                         # a group with the nodes cpu-0, cpu-1, …
count = 2                             # or min = 0 and max = 10, for `scale`; with adapt = true also for `watch`
# class = "distributed.Nanny"
# processes = 4                       # several Dask workers per node
# max_unavailable = "25%"             # nodes that a replacement may take away at the same time
# environment = { env = { A = "1" } } # of this group; it inherits the rest of [environment]
options = { nthreads = 1 }            # arguments of the class
# tags = { stage = "test" }

[hooks]                               # programs to run at events; see docs/hooks.md
# on_node_lost = ["./notify.sh", "lost"]
# on_applied = ["./notify.sh", "applied"]
# on_failed = ["./notify.sh", "failed"]
# before_destroy = ["./save-results.sh"]
""")


def validator(*plugins: Plugin) -> jsonschema.Draft202012Validator:
    schema = json_schema(list(plugins))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("plugin", PLUGINS, ids=["local", "cloud", "planapply_local"])
def test_schema_accepts_the_starters(plugin: Plugin) -> None:
    own = [p for p in PLUGINS if p.name != plugin.name]
    check = validator(plugin, *own[:1])
    document = tomli.loads(render_starter(plugin))
    assert [error.message for error in check.iter_errors(document)] == []
    for key in ("provider", "cluster", "workers"):
        assert list(check.iter_errors({**document, key: {"nonsense": 1}}))


@given(DOCUMENTS)
def test_schema_accepts_every_valid_spec(document: dict[str, Any]) -> None:
    assert [error.message for error in CHECK.iter_errors(document)] == []


CHECK = validator(LOCAL, CLOUD)


def test_every_key_is_described_with_its_effect() -> None:
    for name, table in json_schema([planapply_local.PLUGIN])["$defs"].items():
        for key, schema in table["properties"].items():
            assert schema["description"], (name, key)
            if name != "local":
                assert schema["effect"] in ("nothing", "update", "replacement", "refusal")


def test_reference_matches_the_models() -> None:
    script = Path(__file__).parents[1] / "docs" / "make_spec_reference.py"
    made = runpy.run_path(str(script))
    page = made["reference"](made["embedded"]())
    written = (script.parent / "spec.md").read_text(encoding="utf-8")
    assert written == page, f"run {sys.executable} {script}"
