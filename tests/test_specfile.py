"""Errors and warnings about specs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from inline_snapshot import snapshot
from specs import find_plugin, format_diagnostic, format_problems, load_text

from planapply.model.diagnostics import PlanapplyError
from planapply.specfile import load

GOOD = """\
[cluster]
name = "genomics"

[workers.cpu]
count = 2
"""


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    text = """\
nme = "genomics"

[cluster]
provder = "local"
ttl = "12 parsecs"
protect = "true"
max_cost = -1
state = "http://here/x.json"
tags = { Name = "x", team = 4 }

[provider]
foldr = "/tmp"
allow_from = "me"
size = true

[defaults]
size = "a"
cpus = "8"
spot = "sometimes"
processes = 3

[environment]
python = "python3"
packages = "pandas"
docker = "x"
env = { "A B" = "c" }

[workers.cpu-1]
count = "3"
options = { nthreads = 8,
   name = "x" }
class = "Nanny"

[workers.gpu]
zones = "a"
disk = 100
max = 1
min = 2

[workers.scheduler]
arch = "amd64"
"""
    assert format_problems(tmp_path, text) == snapshot("""\
line 1, column 1: nme = "genomics"
the spec has no key `nme`
  Remove it. The valid keys are `cluster`, `provider`, `defaults`, `environment`, `scheduler`, `workers`, `hooks`.

line 3, column 2: [cluster]
`cluster.name` is missing
  Add it, such as `name = "genomics"`, in [cluster].

line 4, column 1: provder = "local"
[cluster] has no key `provder`
  Did you mean `provider`?

line 5, column 1: ttl = "12 parsecs"
`cluster.ttl` cannot be "12 parsecs": `parsecs` is not a unit of time
  Write a number and a unit (s, min, h, d, w), such as "30 min".

line 6, column 1: protect = "true"
`cluster.protect` must be true or false, not "true"
  Remove the quotes: `protect = true`.

line 7, column 1: max_cost = -1
`cluster.max_cost` must be more than 0, not -1
  Example: `max_cost = 40.0`.

line 8, column 1: state = "http://here/x.json"
`cluster.state` cannot be "http://here/x.json": `http://` is not supported for a state
  Write a path, or a URL that begins with s3://, gs://, or az://.

line 9, column 10: tags = { Name = "x", team = 4 }
`cluster.tags.Name`: this tag is reserved for planapply
  Use another key.

line 9, column 22: tags = { Name = "x", team = 4 }
`cluster.tags.team` must be a string, not 4
  Write `team = "4"`.

line 12, column 1: foldr = "/tmp"
[provider] has no key `foldr`
  Did you mean `folder`?

line 13, column 1: allow_from = "me"
`provider.allow_from` must be a list, not "me"
  Write `allow_from = ["me"]`.

line 14, column 1: size = true
`provider.size` must be a whole number or a list, not true

line 18, column 1: cpus = "8"
`defaults.cpus` must be a whole number, not "8"
  Remove the quotes: `cpus = 8`.

line 18, column 1: cpus = "8"
cannot combine `size` and `cpus` in [defaults]
  Remove one of them.

line 19, column 1: spot = "sometimes"
`defaults.spot` cannot be "sometimes": this is neither true, false, nor "prefer"
  Write `spot = true`, or `spot = "prefer"` for on-demand VMs if no spot VM is available.

line 20, column 1: processes = 3
[defaults] has no key `processes`
  Move it to [workers.NAME].

line 23, column 1: python = "python3"
`environment.python` cannot be "python3": this is not a version of Python
  Example: `python = "3.12"`.

line 24, column 1: packages = "pandas"
`environment.packages` cannot be "pandas": this is neither a list nor "client"
  Write `packages = ["pandas"]`, or `packages = "client"` for the packages of the Python that runs planapply.

line 25, column 1: docker = "x"
cannot combine `packages` and `docker` in [environment]
  Remove one of them.

line 26, column 9: env = { "A B" = "c" }
`environment.env."A B"`: this is not a valid name of an environment variable
  Use letters, digits, and underscores, and do not begin with a digit.

line 28, column 10: [workers.cpu-1]
`workers.cpu-1`: a group name is 1 to 63 letters, digits, and hyphens, begins with a letter, and does not end in a hyphen and a number
  Example: `cpu`, whose nodes are cpu-0, cpu-1, …

line 29, column 1: count = "3"
`workers.cpu-1.count` must be a whole number, not "3"
  Remove the quotes: `count = 3`.

line 31, column 4:    name = "x" }
cannot set `workers.cpu-1.options.name`: planapply sets it
  Remove it: a worker has the name of its node.

line 32, column 1: class = "Nanny"
`workers.cpu-1.class` cannot be "Nanny": this is not a class in dotted form
  Did you mean `distributed.Nanny`? Write the module and the name of the class, such as "distributed.Nanny".

line 35, column 1: zones = "a"
`workers.gpu.zones` must be a list, not "a"
  Write `zones = ["a"]`.

line 36, column 1: disk = 100
`workers.gpu.disk` cannot be 100: a size must be between 1 MiB and 1024 PiB
  Write a number and a unit (MiB, GiB, TiB; MB, GB, TB), such as "100 GiB".

line 38, column 1: min = 2
minimum (2) is greater than maximum (1) in [workers.gpu]
  Set `min` to at most `max`.

line 40, column 10: [workers.scheduler]
`workers.scheduler`: `scheduler` is reserved for the scheduler's own node
  Use another name for the group.

line 40, column 10: [workers.scheduler]
[workers.scheduler] has no number of nodes
  Add `count`, such as `count = 2`; or `min` and `max`, such as `min = 0` and `max = 10`.

line 41, column 1: arch = "amd64"
`workers.scheduler.arch` cannot be "amd64"
  Use "x86_64" or "arm64".
""")


def test_problem_in_an_override_names_the_option(tmp_path: Path) -> None:
    found = format_problems(
        tmp_path,
        GOOD,
        "cluster.provider=cloud",
        "cluster.name.x=1",
        "cluster.nam='x'",
        "workers.cpu.count=-1",
        'workers.gpu.size="x"',
        "workers.cpu.max=3",
        "cluster.protect=",
        "cluster.protect",
        ".=1",
    )
    assert found == snapshot("""\
--set cluster.provider=cloud: `cloud` is not a TOML value
  If it is text, quote it, and protect the quotes from the shell: `--set 'cluster.provider="cloud"'`

--set cluster.name.x=…: `cluster.name` is "genomics", not a table
  Set `cluster.name` as a whole.

--set cluster.protect=: `` is not a TOML value
  If it is text, quote it, and protect the quotes from the shell: `--set 'cluster.protect=""'`

--set cluster.protect: it has no `=`
  Pass a dotted key and a TOML value, such as `--set 'workers.cpu.count=3'`.

--set .=…: "." is not a key
  Pass a dotted key and a TOML value, such as `--set 'workers.cpu.count=3'`.

--set cluster.nam: [cluster] has no key `nam`
  Did you mean `name`?

--set workers.cpu.count=-1: `workers.cpu.count` must be at least 0, not -1
  Example: `count = 20`.

--set workers.cpu.max=3: cannot combine `count` and `max` in [workers.cpu]
  Remove one of them.

--set workers.gpu.size="x": [workers.gpu] has no number of nodes
  Add `count`, such as `count = 2`; or `min` and `max`, such as `min = 0` and `max = 10`.
""")


@pytest.mark.parametrize(
    "option",
    [
        "pw='tiger-1'",
        "cluster.pasword='tiger-1'",
        "provider.pasword='tiger-1'",
        "provider.api_kye=tiger-1",
        "provider={pasword='tiger-1', region=5}",
        "scheduler.option.pw='tiger-1'",
        "scheduler.options.pww='tiger-1'",
        "scheduler.options={pww='tiger-1', port='x'}",
        "environment.env.DBP=tiger-1",
        "environment.env={DBP='tiger-1', N=1}",
        "workers.cpu.pw.a='tiger-1'",
        "x y=tiger-1",
        "cluster.name.pw=tiger-1",
    ],
)
def test_value_of_an_unknown_key_in_an_override_is_not_shown(tmp_path: Path, option: str) -> None:
    found = format_problems(tmp_path, GOOD, option)
    assert f"--set {option[:2]}" in found
    assert "tiger" not in found


@pytest.mark.parametrize(
    "option",
    ["x=" + "a" * 10_000, "a" * 10_000, "a" * 10_000 + "=1", "cluster.name=" + "a" * 10_000],
)
def test_long_override_is_shortened(tmp_path: Path, option: str) -> None:
    assert len(format_problems(tmp_path, GOOD, option)) < 1000


def test_problem_outside_an_override_names_the_file(tmp_path: Path) -> None:
    text = '[cluster]\nname = "a"\n[workers.cpu]\n'
    assert format_problems(tmp_path, text, "workers.cpu.processes=2") == snapshot("""\
line 3, column 10: [workers.cpu]
[workers.cpu] has no number of nodes
  Add `count`, such as `count = 2`; or `min` and `max`, such as `min = 0` and `max = 10`.
""")


def test_later_override_wins_and_overrides_create_tables(tmp_path: Path) -> None:
    spec, _ = load_text(
        tmp_path,
        GOOD,
        "workers.cpu.count=3",
        "workers.cpu.count=4",
        'cluster.tags."a=b"="c=d"',
        'workers.gpu={count=1, size=["a", "b"]}',
        'cluster.provider="cloud"',
    )
    assert spec.workers["cpu"].count == 4
    assert spec.cluster.tags == {"a=b": "c=d"}
    assert spec.workers["gpu"].size == ("a", "b")
    assert spec.cluster.provider == "cloud"


def test_warnings_are_returned_with_the_spec(tmp_path: Path) -> None:
    text = """\
[cluster]
name = "genomics"
provider = "cloud"

[environment]
docker = "daskdev/dask"

[defaults]
spot = "prefer"

[workers.cpu]
count = 2
class = "distributed.Nany"
create.ex_key = "me"
"""
    assert format_problems(tmp_path, text) == snapshot("""\
warning
line 6, column 1: docker = "daskdev/dask"
provider `cloud` ignores `environment.docker`
  Remove the key: it has no effect.

warning
line 9, column 1: spot = "prefer"
the scheduler is a spot VM: if the cloud reclaims it, the cluster's work is lost
  Set `spot = false` in [scheduler] to use an on-demand VM.

warning
line 13, column 1: class = "distributed.Nany"
the class `distributed.Nany` is not a worker
  Did you mean `distributed.Nanny`?

warning
line 14, column 1: create.ex_key = …
provider `cloud` ignores `workers.cpu.create`
  Remove the key: it has no effect.
""")


def test_toml_values_that_a_spec_cannot_have(tmp_path: Path) -> None:
    text = f"""\
when = 2024-01-02
[cluster]
max_cost = nan
[workers.cpu]
count = 99999999999999999999
options.at = [12:30:00]
options.x = {"[" * 60}{"]" * 60}
"""
    assert format_problems(tmp_path, text) == snapshot("""\
line 1, column 1: when = 2024-01-02
`when` cannot be a date or a time
  Quote it: `"2024-01-02"`.

line 2, column 2: [cluster]
`cluster.name` is missing
  Add it, such as `name = "genomics"`, in [cluster].

line 3, column 1: max_cost = nan
`cluster.max_cost` cannot be nan
  Write a finite number.

line 5, column 1: count = 99999999999999999999
`workers.cpu.count` is too large
  Write at most 18 digits.

line 6, column 15: options.at = [12:30:00]
`workers.cpu.options.at[0]` cannot be a date or a time
  Quote it: `"12:30:00"`.

line 7, column 9: options.x = [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]
`workers.cpu.options.x` is nested too deeply
  Use at most 50 levels.
""")
    assert format_problems(tmp_path, "workers = [1]\nenvironment = 1\ncluster = []") == snapshot("""\
line 1, column 1: workers = [1]
`workers` must be a table, not [1]
  Add a table for each group, such as [workers.cpu].

line 2, column 1: environment = 1
`environment` must be a table, not 1
  Write a table: [environment].

line 3, column 1: cluster = []
`cluster` must be a table, not []
  Write a table: [cluster].
""")
    assert format_problems(tmp_path, "[[workers]]\ncount = 1\n[[cluster]]") == snapshot("""\
line 1, column 3: [[workers]]
`workers` must be a table, not [{ count = 1 }]
  Add a table for each group, such as [workers.cpu].

line 3, column 3: [[cluster]]
`cluster` must be a table, not [{}]
  Write a table: [cluster].
""")


def test_group_that_follows_the_load(tmp_path: Path) -> None:
    text = """\
[cluster]
name = "x"

[workers.cpu]
count = 2
adapt = true

[workers.io]
max = 2
adapt = { target = "2 minuets", idel = "5 min" }

[workers.gpu]
min = 1
max = 2
adapt = "yes"

[workers.off]
count = 1
adapt = false
"""
    assert format_problems(tmp_path, text) == snapshot("""\
line 6, column 1: adapt = true
cannot combine `count` and `adapt` in [workers.cpu]
  Give the group `min` and `max` in place of `count`, or remove `adapt`.

line 10, column 1: adapt = { target = "2 minuets", idel = "5 min" }
more than one group has `adapt`: cpu, io, gpu
  Keep it in one group: the scheduler reports the load of the whole cluster.

line 10, column 11: adapt = { target = "2 minuets", idel = "5 min" }
`workers.io.adapt.target` cannot be "2 minuets": `minuets` is not a unit of time
  Write a number and a unit (s, min, h, d, w), such as "30 min".

line 10, column 33: adapt = { target = "2 minuets", idel = "5 min" }
[workers.io.adapt] has no key `idel`
  Did you mean `idle`?

line 15, column 1: adapt = "yes"
`workers.gpu.adapt` cannot be "yes": this is neither true, false, nor a table
  Write `adapt = true`, or `adapt = { target = "2 min", idle = "5 min" }`.

line 15, column 1: adapt = "yes"
more than one group has `adapt`: cpu, io, gpu
  Keep it in one group: the scheduler reports the load of the whole cluster.
""")
    spec = load_text(tmp_path, GOOD.replace("count = 2", "max = 2\nadapt = true"))[0]
    adapt = spec.workers["cpu"].adapt
    assert adapt
    assert (adapt.target, adapt.idle) == (120.0, 300.0)
    table = 'max = 2\nadapt = { idle = "90 s" }'
    adapt = load_text(tmp_path, GOOD.replace("count = 2", table))[0].workers["cpu"].adapt
    assert adapt
    assert (adapt.target, adapt.idle) == (120.0, 90.0)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ('tags = { "planapply:x" = "y" }', "this tag is reserved for planapply"),
        (f'tags = {{ "{"k" * 129}" = "y" }}', "a tag's key has 1 to 128 printable characters"),
        (f'tags = {{ k = "{"v" * 257}" }}', "a tag's value has at most 256 printable characters"),
        (f'name = "{"n" * 64}"', "a cluster name is 1 to 63 letters"),
        ('name = "-n"', "a cluster name is 1 to 63 letters"),
        ("environment.packages = []", "the list must be non-empty"),
        ('environment.packages = ["a", "a"]', "the list contains an element twice"),
        ('environment.packages = ["--index-url"]', "is not a package"),
        ('environment.packages = ["a", 1]', "`environment.packages[1]` must be a string, not 1"),
        ('environment.setup = ["a", " "]', "the list contains an empty command"),
        ('environment.docker = "daskdev/Dask"', "this is not a valid name of a container image"),
        ('environment.env = { a = "\\u0000" }', "a zero byte"),
        ("environment.python = 3.12", "`environment.python` must be a string, not 3.12"),
        ('environment.python = "3.12"', "`environment.python` has no effect without"),
        ('workers."a b".count = 1', "a group name is 1 to 63 letters"),
        ("workers.a = { max = 1, adapt = 1 }", "neither true, false, nor a table"),
        ("workers.a = { max = 1, adapt = [] }", "neither true, false, nor a table"),
        ("workers.a = { max = 1, adapt = { target = -1 } }", "a duration must be greater than 0"),
        ("workers.a.min = 1", "[workers.a] has `min`, but no `max`"),
        ("workers.a.count = 100001", "`workers.a.count` must be at most 100000, not 100001"),
        ("workers.a.count = true", "`workers.a.count` must be a whole number, not true"),
        ("workers.a.count = 1.0", "`workers.a.count` must be a whole number, not 1.0"),
        ("workers.a = { count = 1, spot = 1 }", "neither true, false, nor"),
        ("workers.a = { count = 1, max_unavailable = 0 }", "a percentage from 1% to 100%"),
        ("workers.a = { count = 1, max_unavailable = true }", "a percentage from 1% to 100%"),
        ("workers.a = { count = 1, max_unavailable = 0.5 }", "a percentage from 1% to 100%"),
        ('workers.a = { count = 1, max_unavailable = "0%" }', "a percentage from 1% to 100%"),
        ('workers.a = { count = 1, max_unavailable = "101%" }', "a percentage from 1% to 100%"),
        ('workers.a = { count = 1, max_unavailable = "2" }', "a percentage from 1% to 100%"),
        ("scheduler.max_unavailable = 1", "[scheduler] has no key `max_unavailable`"),
        ("defaults.max_unavailable = 1", "[defaults] has no key `max_unavailable`"),
        ("scheduler.processes = 2", "[scheduler] has no key `processes`"),
        ("scheduler.options.security = 1", "planapply sets it"),
        ('scheduler.options.protocol = "tcp"', "planapply sets it"),
        ('scheduler.options.protocol = "ws"', "planapply sets it"),
        ('workers.a = { count = 1, options = { protocol = "ws" } }', "planapply sets it"),
        ('scheduler.options.host = "ws://127.0.0.1"', "names a protocol"),
        ('image = ""', "the spec has no key `image`"),
        ('defaults.image = " "', "must be non-empty and contain no control characters"),
        ("defaults.cls = 1", "[defaults] has no key `cls`"),
        ("defaults.disk = 1e400", "cannot be inf"),
    ],
)
def test_values_out_of_range_are_refused(tmp_path: Path, setting: str, said: str) -> None:
    key = setting.split(" ")[0]
    cluster = key in ("tags", "name")
    name = "" if key == "name" else 'name = "x"\n'
    text = f"{'' if cluster else setting}\n[cluster]\n{name}{setting if cluster else ''}\n"
    assert said in format_problems(tmp_path, text)


def test_unknown_provider_is_reported(tmp_path: Path) -> None:
    text = '[cluster]\nname = "a"\nprovider = "clod"\n'
    assert format_problems(tmp_path, text) == snapshot("""\
line 3, column 1: provider = "clod"
there is no provider `clod`
  Did you mean `cloud`?
""")


def test_invalid_toml_is_reported(tmp_path: Path) -> None:
    assert format_problems(tmp_path, '[cluster]\nname = genomics\nttl = "12 h') == snapshot("""\
line 2, column 8: name = genomics
cannot read spec.toml: invalid value
  Text needs quotes, and a table needs its [name]. The rest of the file was not read.
""")
    assert format_problems(tmp_path, f"a = {'[' * 401}") == snapshot("""\
cannot read spec.toml: it is nested too deeply
  Use at most 50 levels. The rest of the file was not read.
""")
    assert format_problems(tmp_path, f"a = {'1' * 5000}") == snapshot("""\
cannot read spec.toml: a number in it is too long
  Write at most 18 digits. The rest of the file was not read.
""")
    assert format_problems(tmp_path, " \n# nothing\n  \n") == snapshot("""\
line 1, column 1:  \n\
`cluster` is missing
  Add the table [cluster] with `name = "genomics"`.
""")
    assert format_problems(tmp_path, "\n") == snapshot("""\
the spec spec.toml is empty
  Write one with `planapply init`.
""")


def test_unreadable_file_is_reported(tmp_path: Path) -> None:
    def trouble(path: Path) -> str:
        with pytest.raises(PlanapplyError) as raised:
            load(path, find_plugin)
        return "\n".join(format_diagnostic(d, tmp_path) for d in raised.value.diagnostics)

    path = tmp_path / "spec.toml"
    assert trouble(path) == snapshot("""\
the spec spec.toml does not exist
  Write one with `planapply init`, or select one with --file.
""")
    path.mkdir()
    assert trouble(path) == snapshot("""\
the spec spec.toml is a folder
  Choose a file.
""")
    assert trouble(path / "x\0y") == snapshot("""\
cannot read the spec spec.toml/x\x00y: a path cannot have a zero byte
  Choose another file.
""")
    path = tmp_path / "bytes.toml"
    path.write_bytes(b'[cluster]\nname = "caf\xc3\xa9-\xff"\n')
    assert trouble(path) == snapshot("""\
line 2, column 14: name = "café-�"
the spec bytes.toml is not UTF-8
  Save it as UTF-8.
""")
    path.write_bytes(b'\xef\xbb\xbf[cluster]\nname = "x"\n')
    assert trouble(path) == snapshot("""\
the spec bytes.toml begins with a byte order mark
  Save it as UTF-8 without a byte order mark.
""")
    path.write_bytes(b"#" * (9 << 20))
    assert trouble(path) == snapshot("""\
the spec bytes.toml is larger than 8 MiB
  Choose another file.
""")
    strange = tmp_path / os.fsdecode(b"\xff.toml")
    assert trouble(strange) == snapshot("""\
the spec �.toml does not exist
  Write one with `planapply init`, or select one with --file.
""")


def test_control_characters_are_not_printed(tmp_path: Path) -> None:
    for text in (
        '[cluster]\nname = "a\\u001b[31m\\u0085\\u009b"\n"\\u009b" = 1',
        "# \x1b[2J\x85\x9b\n",
    ):
        found = format_problems(tmp_path, text)
        assert found
        assert not {"\x1b", "\x85", "\x9b"} & set(found)


def test_credential_is_refused_and_not_printed(tmp_path: Path) -> None:
    def account(settings: str, *overrides: str) -> str:
        cluster = '[cluster]\nname = "a"\nprovider = "account"\n'
        found = format_problems(tmp_path, f"{settings}\n{cluster}", *overrides)
        assert "hunter2" not in found
        return found

    assert account('[provider]\nsecret = "hunter2"') == snapshot("""\
line 1, column 2: [provider]
`provider`: a spec holds no credentials
  Write "env:NAME".
""")
    assert account('provider.secret = "hunter2"') == snapshot("""\
line 1, column 1: provider.secret = …
`provider`: a spec holds no credentials
  Write "env:NAME".
""")
    assert account('[provider]\nsecrt = "hunter2"\nnumber = "hunter2"') == snapshot("""\
line 2, column 1: secrt = …
[provider] has no key `secrt`
  Did you mean `secret`?

line 3, column 1: number = …
`provider.number` must be a whole number
""")
    assert account('[provider]\noptions = { a = ["hunter2"] }') == snapshot("""\
line 2, column 11: options = …
`provider.options.a` must be a string
""")
    assert account("[provider]\noptions.a = [\n 'hunter2'\n]") == snapshot("""\
line 2, column 9: options.a = …
`provider.options.a` must be a string
""")
    assert account("[provider]\nsecret = hunter2") == snapshot("""\
line 2, column 10: secret = …
cannot read spec.toml: invalid value
  Text needs quotes, and a table needs its [name]. The rest of the file was not read.
""")
    assert account("", 'provider.secret="hunter2"', 'provider.options="hunter2"') == snapshot("""\
--set provider.options: `provider.options` must be a table
  Write a table: [provider.options].
""")
    assert "must be a whole number, not 0.5" in account("", "provider.number=0.5")
    assert account('[provider]\nsecret = "env:SECRET"') == ""


def test_requirements_are_read_relative_to_the_spec(tmp_path: Path) -> None:
    text = f'{GOOD}[environment]\nrequirements = "more/wanted.txt"\n'
    assert format_problems(tmp_path, text) == snapshot("""\
line 7, column 1: requirements = "more/wanted.txt"
the requirements file more/wanted.txt does not exist
  Write its path relative to the spec's folder.
""")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "wanted.txt").write_text("pandas==3.0\n")
    spec, _ = load_text(tmp_path, text)
    assert spec.environment.requirements == "pandas==3.0\n"
    digest = spec.digest
    (tmp_path / "more" / "wanted.txt").write_text("pandas==3.1\n")
    assert load_text(tmp_path, text)[0].digest != digest


def test_local_requirements_are_reported(tmp_path: Path) -> None:
    (tmp_path / "wanted.txt").write_text(
        "pandas\n-r base.txt\n-e .\n-e git+https://host/x.git\n./mine\n-c https://host/c.txt\n"
        "mine @ file:///x\nother @ https://host/other-1.0-py3-none-any.whl\n# ./x\n--constraint=c.txt\n-rmore.txt\n"
    )
    text = f'{GOOD}[environment]\nrequirements = "wanted.txt"\n'
    assert format_problems(tmp_path, text) == snapshot("""\
line 7, column 1: requirements = "wanted.txt"
cannot install "-r base.txt", line 2 of wanted.txt: it names a local file
  The nodes cannot read your files: write the content of that file, or a URL.

line 7, column 1: requirements = "wanted.txt"
cannot install "-e .", line 3 of wanted.txt: it names a local file
  The nodes cannot read your files: write NAME==VERSION of a package index, or a URL.

line 7, column 1: requirements = "wanted.txt"
cannot install "./mine", line 5 of wanted.txt: it names a local file
  The nodes cannot read your files: write NAME==VERSION of a package index, or a URL.

line 7, column 1: requirements = "wanted.txt"
cannot install "mine @ file:///x", line 7 of wanted.txt: it names a local file
  The nodes cannot read your files: write NAME==VERSION of a package index, or a URL.

line 7, column 1: requirements = "wanted.txt"
cannot install "--constraint=c.txt", line 10 of wanted.txt: it names a local file
  The nodes cannot read your files: write the content of that file, or a URL.

line 7, column 1: requirements = "wanted.txt"
cannot install "-rmore.txt", line 11 of wanted.txt: it names a local file
  The nodes cannot read your files: write the content of that file, or a URL.
""")
    text = f'{GOOD}[environment]\npackages = ["pandas", "./mine", "-r x.txt"]\n'
    assert format_problems(tmp_path, text) == snapshot("""\
line 7, column 1: packages = ["pandas", "./mine", "-r x.txt"]
`environment.packages` cannot be ["pandas", "./mine", "-r x.txt"]: "./mine" is a file or folder of this machine
  The nodes do not have your files: publish the package, or give a URL.
""")


def test_client_packages_not_from_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origins = {
        "from_git": {"url": "https://host/x.git", "vcs_info": {"vcs": "git", "commit_id": "c0"}},
        "From.Folder": {"url": "file:///home/me/x", "dir_info": {"editable": True}},
        "from-archive": {
            "url": "https://host/from_archive-1.0-py3-none-any.whl",
            "subdirectory": "sub",
        },
        "from-nowhere": [],
    }
    for name, origin in origins.items():
        folder = tmp_path / "site" / f"{name}-1.0.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "direct_url.json").write_text(json.dumps(origin) if origin else "{")
    monkeypatch.syspath_prepend(tmp_path / "site")
    text = f'{GOOD}[environment]\npackages = "client"\n'
    client = load_text(tmp_path, text)[0].client
    assert client is not None
    assert [package for package in client.packages if package.startswith("from-")] == [
        "from-archive @ https://host/from_archive-1.0-py3-none-any.whl#subdirectory=sub",
        "from-git @ git+https://host/x.git@c0",
        "from-nowhere==1.0",
    ]
    assert "cannot install from-folder on the nodes" in format_problems(tmp_path, text)


def test_client_packages(tmp_path: Path) -> None:
    spec, _ = load_text(tmp_path, f'{GOOD}[environment]\npackages = "client"\n')
    assert spec.environment.packages == "client"
    assert spec.client is not None
    packages = spec.client.packages
    assert [p for p in packages if p.startswith("pydantic==")]
    assert not [p for p in packages if p.startswith(("planapply", "pip=="))]
    assert len(packages) == len({package.split("==")[0] for package in packages})
    assert spec.client.python == f"{sys.version_info[0]}.{sys.version_info[1]}"


def test_loading_a_spec_imports_little(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(GOOD)
    script = """
import sys
import planapply_local
from planapply.model.desired import build_desired_state
from planapply.specfile import load
plugin = planapply_local.PLUGIN
spec, _ = load("spec.toml", lambda name: plugin, import_classes=True)
build_desired_state(spec, plugin, {})
heavy = {"asyncio", "boto3", "cryptography", "dask", "difflib", "distributed", "psutil"}
print(heavy & sys.modules.keys())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def test_ignored_key_has_one_warning(tmp_path: Path) -> None:
    from planapply_local import PLUGIN

    path = tmp_path / "planapply.toml"
    path.write_text(GOOD + '[scheduler]\nspot = true\n[environment]\npackages = ["dask"]\n')
    _, diagnostics = load(path, lambda name: PLUGIN)
    assert [d.summary for d in diagnostics] == [
        "provider `local` ignores `scheduler.spot`",
        "provider `local` ignores `environment.packages`",
    ]


@pytest.mark.parametrize(
    ("lines", "key", "written"),
    [
        ("count = 1", "count", "count = 1"),
        ('min = 0\nmax = 3\noptions = { nthreads = 2 }\nsize = "x"', "min", "min = 0"),
        ('size = ["a", "b"]\n[workers.gpu]\ncount = 1', "size", 'size = ["a", "b"]'),
    ],
)
def test_settings_of_a_group_without_a_name(
    tmp_path: Path, lines: str, key: str, written: str
) -> None:
    (tmp_path / "s.toml").write_text(f'[cluster]\nname = "x"\n[workers]\n{lines}\n')
    with pytest.raises(PlanapplyError) as raised:
        load(tmp_path / "s.toml", find_plugin)
    (problem,) = raised.value.diagnostics
    assert problem.summary == f"`workers.{key}` belongs to no group"
    assert problem.detail == f"Name the group: `[workers.cpu]`, then `{written}`."
    assert problem.source is not None
    assert problem.source.line == 4


def test_group_may_have_the_name_of_a_key(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text('[cluster]\nname = "x"\n[workers.count]\ncount = 1\n')
    spec, _ = load(tmp_path / "s.toml", find_plugin)
    assert list(spec.workers) == ["count"]
