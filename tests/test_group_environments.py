"""A group's own environment, `[workers.X.environment]`, from the spec to the configurations of the nodes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from diff.model import empty_state, simulate_apply
from inline_snapshot import snapshot
from specs import CLOUD, LOCAL, find_plugin, format_problems, load_text

from planapply.diff import DiffOptions, create_plan, edited_settings, refresh
from planapply.model.desired import build_desired_state
from planapply.model.diagnostics import PlanapplyError
from planapply.model.node import Environment, NodeConfig
from planapply.model.spec import Spec
from planapply.model.state import State
from planapply.ops.recorded_spec import recorded_spec, spec_document
from planapply.provider import Plugin
from planapply.render.values import format_value
from planapply.specfile import load
from planapply.specfile.client_packages import client_packages, client_python
from planapply.specfile.schema import json_schema

PLUGIN = replace(CLOUD, ignored_settings=frozenset({"create"}))
HEAD = '[cluster]\nname = "x"\nprovider = "cloud"\n'
GROUPS = "[workers.cpu]\ncount = 1\n[workers.gpu]\ncount = 1\n"


def configs(spec: Spec, plugin: Plugin = PLUGIN) -> dict[str, NodeConfig]:
    """Return the configurations of the groups and the scheduler."""
    desired = build_desired_state(spec, plugin, {})
    found = {group.name: group.config for group in desired.groups}
    return {"scheduler": desired.scheduler, **found}


def environments(folder: Path, inherited: str, own: str, plugin: Plugin = PLUGIN) -> Environment:
    """Return the environment of a group; check that the other nodes have the inherited one."""
    document = f"{HEAD}[environment]\n{inherited}\n{GROUPS}[workers.gpu.environment]\n{own}\n"
    spec, _ = load_text(folder, document)
    found = configs(spec, plugin)
    alone, _ = load_text(folder, f"{HEAD}[environment]\n{inherited}\n{GROUPS}")
    expected = configs(alone, plugin)
    assert found["scheduler"] == expected["scheduler"]
    assert found["cpu"] == expected["cpu"]
    assert found["cpu"].digest == expected["cpu"].digest
    return found["gpu"].environment


BASE = 'python = "3.12"\npackages = ["dask"]\nenv = { A = "1", B = "2" }\nsetup = ["true"]'


@pytest.mark.parametrize(
    ("own", "changes"),
    [
        ("", {}),
        ('packages = ["dask", "torch"]', {"packages": ("dask", "torch")}),
        ('python = "3.11"', {"python": "3.11"}),
        ('requirements = "r.txt"', {"packages": None, "requirements": "dask\ntorch\n"}),
        ('docker = "a/b:1"', {"packages": None, "python": None, "docker": "a/b:1"}),
        ('env = { B = "3", C = "4" }', {"env": {"A": "1", "B": "3", "C": "4"}}),
        ('setup = ["false"]', {"setup": ("false",)}),
        ("setup = []", {"setup": ()}),
    ],
)
def test_what_a_group_inherits(tmp_path: Path, own: str, changes: dict[str, Any]) -> None:
    (tmp_path / "r.txt").write_text("dask\ntorch\n")
    base = Environment(python="3.12", packages=("dask",), env={"A": "1", "B": "2"}, setup=("true",))
    assert environments(tmp_path, BASE, own) == base.model_copy(update=changes)


def test_groups_replace_a_file_or_a_container(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("dask\n")
    expected = Environment(packages=("dask",))
    for inherited in ('requirements = "r.txt"', 'docker = "a/b"'):
        assert environments(tmp_path, inherited, 'packages = ["dask"]') == expected
    # The Python of [environment] may be meant for the packages of groups.
    text = f'{HEAD}[environment]\npython = "3.12"\n{GROUPS}environment.packages = ["dask"]\n'
    found = configs(load_text(tmp_path, text)[0])["gpu"].environment
    assert found == Environment(python="3.12", packages=("dask",))


def test_client_packages_of_a_group(tmp_path: Path) -> None:
    installed = client_packages().requirements
    found = environments(tmp_path, 'packages = ["dask"]', 'packages = "client"')
    assert found == Environment(python=client_python(), packages=installed)
    # One cluster has one Python, unless the spec says otherwise.
    found = environments(tmp_path, BASE, 'packages = "client"\npython = "3.11"\nenv = { B = "3" }')
    assert (found.python, found.env) == ("3.11", {"A": "1", "B": "3"})
    found = environments(tmp_path, 'packages = "client"', 'packages = ["dask"]')
    assert found == Environment(python=client_python(), packages=("dask",))


def test_keys_that_the_provider_ignores_replace_nothing(tmp_path: Path) -> None:
    text = f'{HEAD}[environment]\npackages = ["dask"]\n{GROUPS}[workers.gpu.environment]\ndocker = "a/b"\n'
    assert format_problems(tmp_path, text) == snapshot("""\
warning
line 11, column 1: docker = "a/b"
provider `cloud` ignores `workers.gpu.environment.docker`
  Remove the key: it has no effect.
""")
    found = environments(tmp_path, 'packages = ["dask"]', 'docker = "a/b"', CLOUD)
    assert found == Environment(packages=("dask",))
    spec, _ = load_text(tmp_path, text)
    assert spec_document(spec, CLOUD)["workers"] == {"cpu": {"count": 1}, "gpu": {"count": 1}}


def test_all_errors_with_their_positions(tmp_path: Path) -> None:
    text = f"""\
{HEAD}
[environment]
packages = ["dask"]
[workers.cpu]
count = 1
packages = ["dask"]
environment = {{ docker = "a/b", packages = ["dask"], python = "3.12" }}
[workers.gpu]
count = 1
[workers.gpu.environment]
pakages = ["dask"]
python = 3.12
env = {{ "A B" = "c" }}
setup = "true"
[workers.arm]
count = 1
environment = "client"
[workers.old]
count = 1
environment.docker = "a/b"
environment.python = "3.12"
[scheduler.environment]
packages = ["dask"]
"""
    assert format_problems(tmp_path, text) == snapshot("""\
line 9, column 1: packages = ["dask"]
[workers.cpu] has no key `packages`
  Move it to [environment], or to [workers.cpu.environment] for this group only.

line 10, column 17: environment = { docker = "a/b", packages = ["dask"], python = "3.12" }
cannot combine `packages` and `docker` in [workers.cpu.environment]
  Remove one of them.

line 14, column 1: pakages = ["dask"]
[workers.gpu.environment] has no key `pakages`
  Did you mean `packages`?

line 15, column 1: python = 3.12
`workers.gpu.environment.python` must be a string, not 3.12
  Write `python = "3.12"`.

line 16, column 9: env = { "A B" = "c" }
`workers.gpu.environment.env."A B"`: this is not a valid name of an environment variable
  Use letters, digits, and underscores, and do not begin with a digit.

line 17, column 1: setup = …
`workers.gpu.environment.setup` must be a list
  Example: `setup = ["apt-get install -y graphviz"]`.

line 20, column 1: environment = "client"
`workers.arm.environment` must be a table, not "client"
  Example: `environment = { packages = ["dask[distributed]==2026.8.0", "torch"] }`.

line 24, column 13: environment.python = "3.12"
`workers.old.environment.python` has no effect without `packages` or `requirements`
  Add one of them, or remove `python`.

line 25, column 12: [scheduler.environment]
[scheduler] has no key `environment`
  Use [environment] for every node, or [workers.NAME.environment] for a group.
""")


def test_packages_that_a_groups_nodes_cannot_install(tmp_path: Path) -> None:
    text = f"""\
{HEAD}
[environment]
packages = ["dask"]
env = {{ PATH = "/opt:$PATH" }}
[workers.cpu]
count = 1
[workers.cpu.environment]
packages = ["dask", "x = 2", "https://${{TOKEN}}@h/x.whl"]
setup = ["true", "if"]
[workers.gpu]
count = 1
[workers.gpu.environment]
requirements = "gone.txt"
"""
    assert format_problems(tmp_path, text) == snapshot("""\
line 16, column 1: requirements = "gone.txt"
the requirements file gone.txt does not exist
  Write its path relative to the spec's folder.
""")
    (tmp_path / "gone.txt").write_text("pandas\npywin32==306\n")
    assert format_problems(tmp_path, text) == snapshot("""\
line 11, column 12: packages = …
cannot install "x = 2": it is not a valid requirement
  Write it in pip's format, such as "pandas>=2" or "NAME @ https://HOST/NAME-1.0.tar.gz".

line 11, column 12: packages = …
cannot install "https://…@h/x.whl": the nodes do not have ${TOKEN}
  Set it in environment.env.

line 16, column 1: requirements = "gone.txt"
cannot install "pywin32==306", line 2 of gone.txt: it does not exist for Linux
  Remove it, or write pywin32==306 ; sys_platform != 'linux'.
""")
    (tmp_path / "gone.txt").write_text("pandas\n")
    text = text.replace(', "x = 2", "https://${TOKEN}@h/x.whl"', "")
    assert format_problems(tmp_path, text) == snapshot("""\
warning
line 12, column 9: setup = …
bash cannot parse command 2 of `setup`: it is not complete
  Dask would not start on the nodes. Each command has its own bash.

warning
line 16, column 1: requirements = "gone.txt"
the environment names neither dask nor distributed
  Nodes without Dask do not start: add dask[distributed], unless another package needs it.
""")


def test_variables_of_a_container(tmp_path: Path) -> None:
    plugin = replace(CLOUD, name="cloud", ignored_settings=frozenset())
    path = tmp_path / "spec.toml"
    text = f"""\
{HEAD}
[environment.env]
PATH = "/opt:$PATH"
DATA_DIR = "$HOME/data"
{GROUPS}
[workers.gpu.environment]
docker = "a/b"
env = {{ LIB_PATH = "$HOME/lib" }}
"""
    path.write_text(text)
    with pytest.raises(PlanapplyError) as raised:
        load(path, lambda name: plugin)
    assert [(d.summary, d.source and d.source.line) for d in raised.value.diagnostics] == snapshot(
        [("cannot extend `PATH` in a container: planapply does not know the image's", 6)]
    )
    path.write_text(text.replace("/opt:$PATH", "/usr/bin"))
    _, found = load(path, lambda name: plugin)
    assert [(d.summary, d.source and d.source.line) for d in found] == snapshot(
        [
            ("`DATA_DIR` of the nodes will contain $HOME literally", 7),
            ("`LIB_PATH` of the nodes will contain $HOME literally", 15),
        ]
    )


def test_versions_that_differ(tmp_path: Path) -> None:
    text = f"""\
{HEAD}
[environment]
python = "3.12"
packages = ["dask[distributed]==2026.8.0"]
[workers.cpu]
count = 1
[workers.cpu.environment]
packages = ["distributed==2026.7.0"]
[workers.gpu]
count = 1
[workers.gpu.environment]
python = "3.11"
[workers.same]
count = 1
[workers.same.environment]
python = "3.12.4"
packages = ["dask==2026.8.0", "torch"]
[workers.unknown]
count = 1
[workers.unknown.environment]
packages = ["dask"]
"""
    assert format_problems(tmp_path, text) == snapshot("""\
warning
line 10, column 14: [workers.cpu.environment]
group 'cpu' has Dask 2026.7.0, but the scheduler has Dask 2026.8.0
  Tasks and results may fail to move between them. Use the same version for all nodes.

warning
line 14, column 14: [workers.gpu.environment]
group 'gpu' has Python 3.11, but the scheduler has Python 3.12
  Tasks and results may fail to move between them. Use the same version for all nodes.
""")
    image = text.replace('python = "3.12"\npackages = ["dask[distributed]==2026.8.0"]', "")
    image = image.replace('"3.11"', '"3.11"\npackages = ["dask"]')
    assert format_problems(tmp_path, image) == snapshot("""\
warning
line 18, column 15: [workers.same.environment]
group 'same' has Python 3.12, but group 'gpu' has Python 3.11
  Tasks and results may fail to move between them. Use the same version for all nodes.

warning
line 18, column 15: [workers.same.environment]
group 'same' has Dask 2026.8.0, but group 'cpu' has Dask 2026.7.0
  Tasks and results may fail to move between them. Use the same version for all nodes.
""")
    # Nodes of the provider local run this Python.
    local = replace(
        LOCAL,
        ignored_settings=frozenset({"environment.python", "environment.packages"}),
    )
    path = tmp_path / "spec.toml"
    path.write_text(text.replace('"cloud"', '"local"'))
    _, found = load(path, lambda name: local)
    assert {d.summary for d in found if "ignores" not in d.summary} == set()


def test_options_are_those_of_the_groups_own_version(tmp_path: Path) -> None:
    text = f"""\
{HEAD}
[environment]
packages = ["dask==2026.8.0"]
[workers.cpu]
count = 1
options = {{ nthread = 1 }}
[workers.gpu]
count = 1
options = {{ nthread = 1 }}
environment.packages = ["dask"]
"""
    assert format_problems(tmp_path, text) == snapshot("""\
line 9, column 13: options = { nthread = 1 }
`Nanny` of distributed 2026.8.0 has no option `nthread`
  Did you mean `nthreads`?
""")


def test_change_replaces_the_group_only(tmp_path: Path) -> None:
    text = f'{HEAD}[environment]\nenv = {{ A = "1" }}\n{GROUPS}'
    own = '[workers.gpu.environment]\npackages = ["dask"]\nenv = { A = "2", TOKEN = "hunter22" }\n'
    before, _ = load_text(tmp_path, text)
    after, _ = load_text(tmp_path, text + own)
    state = empty_state()
    state.cluster, state.provider = "x", "cloud"
    made = create_plan(
        build_desired_state(before, PLUGIN, {}), refresh(state, None, 0, 0), DiffOptions()
    )
    assert [c.name for c in made.changes] == ["scheduler", "cpu-0", "gpu-0"]
    state = simulate_apply(made, refresh(state, None, 0, 0))
    made = create_plan(
        build_desired_state(after, PLUGIN, {}), refresh(state, None, 0, 0), DiffOptions()
    )
    assert [
        (
            c.name,
            c.action.value,
            [(f.path, format_value(f.before), format_value(f.after)) for f in c.fields],
        )
        for c in made.changes
    ] == snapshot(
        [
            (
                "gpu-0",
                "replace",
                [
                    ("environment.packages", "(unset)", '["dask"]'),
                    ("environment.env.A", '"1"', '"2"'),
                    ("environment.env.TOKEN", "(unset)", '"hunter22"'),
                ],
            )
        ]
    )
    # The plan shows an edit once: at the node, or as an edit if the group has none.
    documents = [spec_document(spec, PLUGIN) for spec in (before, after)]
    assert edited_settings(*documents, made.changes) == ()
    found = edited_settings(*documents, ())
    assert [(f.path, f.before, f.after) for f in found] == snapshot(
        [
            ("workers.gpu.environment.packages", None, ["dask"]),
            ("workers.gpu.environment.env.A", None, "2"),
            ("workers.gpu.environment.env.TOKEN", None, "hunter22"),
        ]
    )
    assert "hunter22" not in repr(after)


def test_recorded_spec_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("dask\ntorch\n")
    own = '[workers.gpu.environment]\nrequirements = "r.txt"\nsetup = []\n'
    for text in (
        f"{HEAD}[environment]\n{BASE}\n{GROUPS}{own}",
        f'{HEAD}[environment]\nrequirements = "r.txt"\n',
    ):
        spec, _ = load_text(tmp_path, text)
        document = json.loads(json.dumps(spec_document(spec, PLUGIN)))
        again = recorded_spec(State(lineage="", cluster="x", provider="cloud", spec=document))
        assert again is not None
        assert again.digest == spec.digest
        assert configs(again) == configs(spec)


def test_class_in_the_groups_own_pythonpath(tmp_path: Path) -> None:
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "module_of_a_group.py").write_text(
            f"from distributed import Nanny\nclass {name.title()}(Nanny): pass\n"
        )
    path = tmp_path / "spec.toml"

    def write(second: str) -> None:
        path.write_text(f"""\
[cluster]
name = "x"
[workers.one]
count = 1
class = "module_of_a_group.One"
environment.env.PYTHONPATH = "{tmp_path}/one"
[workers.two]
count = 1
class = "module_of_a_group.Two"
{second}
""")

    write(f'environment.env.PYTHONPATH = "{tmp_path}/two"')
    assert load(path, find_plugin, import_classes=True)[1] == []
    write("")
    with pytest.raises(PlanapplyError) as raised:
        load(path, find_plugin, import_classes=True)
    assert [d.summary for d in raised.value.diagnostics] == [
        "cannot import the class `module_of_a_group.Two`: there is no module `module_of_a_group`"
    ]


def test_schema_has_the_groups_environment() -> None:
    schema = json_schema([LOCAL])
    own = schema["$defs"]["WorkerGroup"]["properties"]["environment"]
    assert own["$ref"] == "#/$defs/EnvironmentSettings"
    assert own["effect"] == "replacement"
