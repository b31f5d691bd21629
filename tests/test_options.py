"""Classes, options and preloads of a spec, against the table of distributed's own."""

import json
import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import dask.utils
import distributed
import pytest
from inline_snapshot import snapshot
from packaging.requirements import Requirement
from packaging.version import Version
from specs import find_plugin, format_diagnostic, format_problems

from planapply.model.diagnostics import PlanapplyError
from planapply.specfile import load
from planapply.specfile.dask_options import find_fault
from planapply.specfile.dask_options.make_table import read_options

TABLE = json.loads(
    resources.files("planapply.specfile.dask_options").joinpath("table.json").read_text()
)
CLUSTER = '[cluster]\nname = "x"\nprovider = "cloud"\n'
PINNED = f'{CLUSTER}[environment]\npackages = ["dask==2026.8.0"]\n'


def test_table_has_the_installed_version() -> None:
    folder = Path(distributed.__file__).parent
    options = read_options(lambda name: (folder / name).read_text(encoding="utf-8"))
    index = TABLE["versions"].get(distributed.__version__)
    assert index is not None, "run planapply/specfile/dask_options/make_table.py WHEEL"
    assert TABLE["options"][index] == options


def test_table_has_only_supported_versions() -> None:
    [supported] = [
        requirement.specifier
        for requirement in map(Requirement, metadata.requires("planapply") or ())
        if requirement.name == "distributed"
    ]
    assert all(version in supported for version in TABLE["versions"])
    assert min(map(Version, TABLE["versions"])) == Version("2025.3.0")


@pytest.mark.parametrize("role", ["Scheduler", "Worker", "Nanny"])
def test_table_has_what_the_constructor_takes(role: str) -> None:
    import inspect

    options = TABLE["options"][TABLE["versions"][distributed.__version__]][role]
    names = set(inspect.signature(getattr(distributed, role)).parameters)
    assert names - {"kwargs", "worker_kwargs"} <= options.keys()


def test_unknown_classes_and_options(tmp_path: Path) -> None:
    text = f"""\
{PINNED}
[scheduler]
class = "distributed.Client"
[workers.a]
count = 1
options = {{ ntheads = 1, worker_ttl = 3 }}
[workers.b]
count = 1
class = "distributed.Worker"
options.worker_port = 9000
options.nthreads = 2
[workers.c]
count = 1
class = "distributed.scheduler.Scheduler"
options.anything = 1
[workers.d]
count = 1
class = "dask_cuda.CUDAWorker"
options.rmm_pool_size = "lots"
[workers.e]
count = 1
options.env.A = "b"
[workers.f]
count = 1
class = "distributed.LocalCluster"
[workers.g]
count = 1
class = "distributed.nanny.Something"
[workers.h]
count = 1
class = "distributed.scheduler.Worker"
"""
    assert format_problems(tmp_path, text) == snapshot("""\
line 8, column 1: class = "distributed.Client"
the class `distributed.Client` is not a scheduler
  Write distributed.Scheduler.

line 11, column 13: options = { ntheads = 1, worker_ttl = 3 }
`Nanny` of distributed 2026.8.0 has no option `ntheads`
  Did you mean `nthreads`?

line 11, column 26: options = { ntheads = 1, worker_ttl = 3 }
`Nanny` of distributed 2026.8.0 has no option `worker_ttl`
  Did you mean `worker_port`?

line 15, column 9: options.worker_port = 9000
`Worker` of distributed 2026.8.0 has no option `worker_port`
  Remove it.

line 19, column 1: class = "distributed.scheduler.Scheduler"
the class `distributed.scheduler.Scheduler` is not a worker
  Write distributed.Nanny or distributed.Worker.

line 30, column 1: class = "distributed.LocalCluster"
the class `distributed.LocalCluster` is not a worker
  Write distributed.Nanny or distributed.Worker.
""")
    unpinned = text.replace("dask==2026.8.0", "dask")
    assert format_problems(tmp_path, unpinned).count("warning") == 8
    old = text.replace("dask==2026.8.0", "dask==2024.1.0")
    assert format_problems(tmp_path, old) == format_problems(tmp_path, unpinned)


def test_values_of_options(tmp_path: Path) -> None:
    text = f"""\
{PINNED}
[scheduler]
options = {{ portt = 1, port = 70000, dashboard_address = 8.5, worker_ttl = "10 min" }}
[workers.a]
count = 1
options.memory_limit = "lots"
options.nthreads = "4"
options.death_timeout = "a while"
options.lifetime = "1 hour"
options.resources = {{ SSD = "1" }}
options.dashboard = "false"
options.preload = [1]
options.port = "9000:x"
[workers.c]
count = 1
options = {{ nthreads = -1, memory_limit = -1, lifetime = -1 }}
[workers.b]
count = 1
options.memory_limit = 0.5
options.nthreads = 2
options.death_timeout = 60
options.resources = {{ SSD = 1, GPU = 0.5 }}
options.dashboard = true
options.preload = "https://h/x.py"
options.port = [9100, 9200]
options.interface = "eth0"
"""
    assert format_problems(tmp_path, text) == snapshot("""\
line 8, column 13: options = { portt = 1, port = 70000, dashboard_address = 8.5, worker_ttl = "10 min" }
`Scheduler` of distributed 2026.8.0 has no option `portt`
  Did you mean `port`?

line 8, column 24: options = { portt = 1, port = 70000, dashboard_address = 8.5, worker_ttl = "10 min" }
`scheduler.options.port` must be a port, not 70000
  `Scheduler` of distributed 2026.8.0 does not accept it.

line 8, column 38: options = { portt = 1, port = 70000, dashboard_address = 8.5, worker_ttl = "10 min" }
`scheduler.options.dashboard_address` must be a port, or an address such as ":8787", not 8.5
  `Scheduler` of distributed 2026.8.0 does not accept it.

line 8, column 63: options = { portt = 1, port = 70000, dashboard_address = 8.5, worker_ttl = "10 min" }
`scheduler.options.worker_ttl` must be a number of seconds, or a duration such as "10 minutes", not "10 min"
  `Scheduler` of distributed 2026.8.0 does not accept it.

line 11, column 9: options.memory_limit = "lots"
`workers.a.options.memory_limit` must be a size such as "4 GiB", a fraction of the memory such as 0.5, or "auto", not "lots"
  `Nanny` of distributed 2026.8.0 does not accept it.

line 12, column 9: options.nthreads = "4"
`workers.a.options.nthreads` must be a whole number of at least 0, not "4"
  `Nanny` of distributed 2026.8.0 does not accept it.

line 13, column 9: options.death_timeout = "a while"
`workers.a.options.death_timeout` must be a number of seconds, or a duration such as "10 minutes", not "a while"
  `Nanny` of distributed 2026.8.0 does not accept it.

line 15, column 9: options.resources = { SSD = "1" }
`workers.a.options.resources` must be a table of numbers, not { SSD = "1" }
  `Nanny` of distributed 2026.8.0 does not accept it.

line 17, column 9: options.preload = [1]
`workers.a.options.preload` must be a string or a list of strings, not [1]
  `Nanny` of distributed 2026.8.0 does not accept it.

line 18, column 9: options.port = "9000:x"
`workers.a.options.port` must be a port, a range such as "9000:9100", or a list of numbers, not "9000:x"
  `Nanny` of distributed 2026.8.0 does not accept it.

line 21, column 13: options = { nthreads = -1, memory_limit = -1, lifetime = -1 }
`workers.c.options.nthreads` must be a whole number of at least 0, not -1
  `Nanny` of distributed 2026.8.0 does not accept it.

line 21, column 28: options = { nthreads = -1, memory_limit = -1, lifetime = -1 }
`workers.c.options.memory_limit` must be a size such as "4 GiB", a fraction of the memory such as 0.5, or "auto", not -1
  `Nanny` of distributed 2026.8.0 does not accept it.

line 21, column 47: options = { nthreads = -1, memory_limit = -1, lifetime = -1 }
`workers.c.options.lifetime` must be a number of seconds, or a duration such as "10 minutes", not -1
  `Nanny` of distributed 2026.8.0 does not accept it.
""")


def test_options_that_one_version_takes(tmp_path: Path) -> None:
    worker = '[workers.a]\ncount = 1\nclass = "distributed.Worker"\noptions.reconnect = true\n'
    text = PINNED + worker
    assert "has no option `reconnect`" in format_problems(tmp_path, text)
    assert format_problems(tmp_path, text.replace("2026.8.0", "2026.3.0")) == ""
    assert format_problems(tmp_path, text.replace("==2026.8.0", "")) == ""


SIZES = [
    "1",
    "1e400",
    "1e400 GB",
    "1e300",
    "1.5",
    "1e3",
    ".5",
    "5.",
    "5 GB",
    "5GiB",
    "5 gb",
    "GB",
    "1 0 GB",
    "10 M",
    "1e6 kB",
]
TIMES = [
    "1e999 h",
    "1 min",
    "10 min",
    "10 minutes",
    "1h",
    "1 H",
    "1.5 days",
    "2w",
    "100ms",
    "5 ns",
    "week",
]
NEITHER = ["", "lots", "5 GBB", "x GB", "5 5GB", "-1 GB", "5 parsecs", "1,5 h", "1 h 2", "."]
QUANTITIES = [*SIZES, *TIMES, *NEITHER]


@pytest.mark.parametrize("text", QUANTITIES)
def test_quantities_are_read_as_dask_reads_them(text: str) -> None:
    def accepts(parse: Any) -> bool:
        try:
            return bool(text) and parse(text) >= 0
        except (ValueError, KeyError, IndexError, OverflowError):
            return False

    assert (find_fault("memory", text) is None) == accepts(dask.utils.parse_bytes)
    assert (find_fault("duration", text) is None) == accepts(dask.utils.parse_timedelta)


@pytest.mark.parametrize(
    "value", [8787, "8787", "8787:8790", "9:9", "9:8", [1, 2], "x", ":1", "1:"]
)
def test_ports_are_read_as_dask_reads_them(value: Any) -> None:
    try:
        distributed.utils.parse_ports(value)
    except (ValueError, TypeError):
        assert find_fault("ports", value)
    else:
        assert find_fault("ports", value) is None
    assert find_fault("ports", ["9000:9100"])  # Dask accepts no range in a list


@pytest.mark.parametrize(
    "value",
    [
        8787,
        ":8787",
        "8787",
        "h",
        "h:1",
        ":1,:2",
        [1, ":2"],
        "h:",
        "h:x",
        "a:b:c",
        "[::1]:8787",
        ["x:"],
    ],
)
def test_dashboard_addresses_are_read_as_dask_reads_them(value: Any) -> None:
    try:
        distributed.utils.clean_dashboard_address(value)
    except ValueError:
        assert find_fault("addresses", value)
    else:
        assert find_fault("addresses", value) is None


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *[
            ("hosts", value)
            for value in (
                "",
                " ",
                "a b",
                "a/b",
                "u@h",
                "0.0.0.0:99999",
                f"h:{'9' * 5000}",
                ["h", ""],
                5,
                True,
            )
        ],
        *[("interfaces", value) for value in ("", "a b", "a/b", "..", [""], 5, True)],
        *[("variables", value) for value in ({"": "1"}, {"A=B": "1"}, [], "A=B")],
        *[("addresses", value) for value in ("a b:1", "h:70000", "http://h:1", True)],
        *[("ports", value) for value in ("70000", [70000], ["1"], True, -1)],
        *[(kind, True) for kind in ("count", "float", "int", "port", "memory", "duration")],
        *[("numbers", {"GPU": True}), ("numbers", {"GPU": "1"})],
    ],
)
def test_values_with_which_a_node_cannot_start(kind: str, value: object) -> None:
    assert find_fault(kind, value)


def test_values_with_which_a_node_starts() -> None:
    for kind, value in (
        ("hosts", "10.0.0.5"),
        ("hosts", "10.0.0.5:8786"),
        ("hosts", "::1"),
        ("hosts", ["h.example.com", "{host}"]),
        ("interfaces", "eth0"),
        ("interfaces", "wlp2s0.5:1"),
        ("variables", {"A": "b=c", "x y": 1}),
    ):
        assert find_fault(kind, value) is None


def test_zero_byte_is_refused_everywhere(tmp_path: Path) -> None:
    text = f"""\
{CLUSTER}
state = "a\\u0000b"
[provider]
folder = "/tmp/\\u0000"
[scheduler]
options = {{ local_directory = "/a\\u0000", preload = ["x\\u0000"] }}
[environment.env]
A = "\\u0000"
"B\\u0000" = "1"
"""
    assert format_problems(tmp_path, text) == snapshot("""\
line 5, column 1: state = "a\\u0000b"
`cluster.state` has a zero byte
  Remove it.

line 7, column 1: folder = "/tmp/\\u0000"
`provider.folder` has a zero byte
  Remove it.

line 9, column 13: options = { local_directory = "/a\\u0000", preload = ["x\\u0000"] }
`scheduler.options.local_directory` has a zero byte
  Remove it.

line 9, column 54: options = { local_directory = "/a\\u0000", preload = ["x\\u0000"] }
`scheduler.options.preload[0]` has a zero byte
  Remove it.

line 10, column 14: [environment.env]
`environment.env` has a key with a zero byte
  Remove the byte.

line 11, column 1: A = "\\u0000"
`environment.env.A` has a zero byte
  Remove it.

line 12, column 1: "B\\u0000" = "1"
`environment.env."B\\u0000"`: this is not a valid name of an environment variable
  Use letters, digits, and underscores, and do not begin with a digit.
""")


def test_host_and_interface_are_not_combined(tmp_path: Path) -> None:
    text = f'{PINNED}[scheduler.options]\nhost = "h"\ninterface = "eth0"\n'
    assert format_problems(tmp_path, text) == snapshot("""\
line 8, column 1: interface = "eth0"
cannot combine `host` and `interface` in [scheduler.options]
  Remove one of them.
""")


def test_missing_preloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine_for_preload.py").write_text("raise SystemExit('it was imported')")
    text = """\
[cluster]
name = "x"
[scheduler]
options.preload = "no_such_module_for_preload.sub"
[workers.a]
count = 1
options.preload = ["x.py", "/nowhere/gone.py"]
options.preload_argv = []
options.preload_nanny = ["mine_for_preload", "https://h/x.py", "import sys; print(1)", "json"]
"""
    path = tmp_path / "spec.toml"
    path.write_text(text)

    def problems(provider: str, more: str = "") -> str:
        path.write_text(text.replace('"x"', f'"x"\nprovider = "{provider}"', 1) + more)
        try:
            _, found = load(path, find_plugin, import_classes=True)
        except PlanapplyError as error:
            found = list(error.diagnostics)
        return "\n".join(format_diagnostic(each, tmp_path) for each in found)

    assert problems("local") == snapshot("""\
line 5, column 9: options.preload = "no_such_module_for_preload.sub"
`scheduler.options.preload` names the module `no_such_module_for_preload.sub`, and there is no module `no_such_module_for_preload`
  Install it, or put its folder on PYTHONPATH.

line 8, column 9: options.preload = ["x.py", "/nowhere/gone.py"]
`workers.a.options.preload` names a file by a relative path: "x.py"
  Nodes run in folders of their own: write its absolute path.

line 8, column 9: options.preload = ["x.py", "/nowhere/gone.py"]
`workers.a.options.preload` names a file that does not exist: "/nowhere/gone.py"
  Write the path of an existing file.
""")
    assert problems("cloud") == snapshot("""\
warning
line 8, column 9: options.preload = ["x.py", "/nowhere/gone.py"]
`workers.a.options.preload` names a file that the nodes do not have: "x.py"
  Write its address, or its text, or create it in environment.setup.

warning
line 8, column 9: options.preload = ["x.py", "/nowhere/gone.py"]
`workers.a.options.preload` names a file that the nodes do not have: "/nowhere/gone.py"
  Write its address, or its text, or create it in environment.setup.
""")
    text = text.replace("/nowhere/gone.py", f"{tmp_path}/mine_for_preload.py")
    assert "does not exist" not in problems("local")
    assert problems("cloud", '[environment]\nsetup = ["curl -O https://h/x.py"]\n') == ""
    assert problems("cloud", '[defaults]\nimage = "mine"\n') == ""


def test_modules_in_pythonpath_are_found(tmp_path: Path) -> None:
    (tmp_path / "preload_of_this_test.py").write_text("")
    (tmp_path / "class_of_this_test.py").write_text(
        "from distributed import Nanny\nclass Mine(Nanny): pass\n"
    )
    path = tmp_path / "spec.toml"
    text = """\
[cluster]
name = "x"
[workers.a]
count = 1
class = "class_of_this_test.Mine"
options.preload = "preload_of_this_test"
"""
    path.write_text(text)
    with pytest.raises(PlanapplyError, match="class_of_this_test"):
        load(path, find_plugin, import_classes=True)
    before = list(sys.path)
    path.write_text(f'{text}[environment.env]\nPYTHONPATH = "lib:{tmp_path}:$PYTHONPATH"\n')
    assert load(path, find_plugin, import_classes=True)[1] == []
    assert sys.path == before
    assert "class_of_this_test" not in sys.modules  # the nodes of another group may not have it


@pytest.mark.parametrize("line", ["environment = 3", "environment.env = 3", "workers = 3"])
def test_preloads_of_an_invalid_spec(tmp_path: Path, line: str) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(f'{line}\n[cluster]\nname = "x"\n[scheduler]\noptions.preload = "json"\n')
    with pytest.raises(PlanapplyError) as raised:
        load(path, find_plugin, import_classes=True)
    assert len(raised.value.diagnostics) == 1


def test_validating_options_imports_no_distributed(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(
        '[cluster]\nname = "x"\n[workers.a]\ncount = 1\noptions.nthreads = 1\n'
    )
    script = """
import sys
import planapply_local
from planapply.specfile import load
load("spec.toml", lambda name: planapply_local.PLUGIN, import_classes=True)
print({"dask", "distributed", "packaging"} & sys.modules.keys())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


LOCAL = '[cluster]\nname = "x"\nprovider = "local"\n'


@pytest.mark.parametrize(
    ("table", "name", "problem"),
    [
        ("workers.cpu", "builtins.int", "is not a worker: it is not a Dask server"),
        ("scheduler", "collections.OrderedDict", "is not a scheduler: it is not a Dask server"),
        ("workers.cpu", "own_classes.Master", "is not a worker, but a scheduler"),
        ("scheduler", "own_classes.Helper", "is not a scheduler, but a nanny"),
        ("workers.cpu", "distributed.Scheduler", "is not a worker"),
        ("scheduler", "distributed.nanny.Nanny", "is not a scheduler"),
        ("workers.cpu", "own_classes.Helper", ""),
        ("scheduler", "own_classes.Master", ""),
        ("workers.cpu", "own_classes.Foreign", ""),
    ],
)
def test_local_classes_must_be_able_to_run_their_role(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, name: str, problem: str
) -> None:
    (tmp_path / "own_classes.py").write_text(
        "import distributed, distributed.core\n"
        "class Master(distributed.Scheduler): pass\n"
        "class Helper(distributed.Nanny): pass\n"
        "class Foreign(distributed.core.Server): pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    count = "count = 1\n" if table != "scheduler" else ""
    (tmp_path / "s.toml").write_text(f'{LOCAL}[{table}]\n{count}class = "{name}"\n')
    if not problem:
        load(tmp_path / "s.toml", find_plugin, import_classes=True)
        return
    with pytest.raises(PlanapplyError) as raised:
        load(tmp_path / "s.toml", find_plugin, import_classes=True)
    assert [d.summary for d in raised.value.diagnostics] == [f"the class `{name}` {problem}"]
