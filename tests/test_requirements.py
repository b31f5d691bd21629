"""Requirements lines: what planapply accepts is what uv accepts, asked of uv itself."""

import subprocess
import sys
from pathlib import Path

import pytest
from inline_snapshot import snapshot

from planapply.bootstrap.requirements import Translation, logical_lines, translate
from planapply.bootstrap.steps import UV_VERSION
from planapply.model.diagnostics import Severity
from planapply.specfile.requirement_sets import find_conflicts
from planapply.specfile.requirements import check_requirements, names_dask, pinned_dask

COMMIT = "0123456789012345678901234567890123456789"
HASH = f"sha256:{'0' * 64}"

ACCEPTED = [
    *("pandas", "  pandas", "pandas>=2 # why", "pandas>=2\t# why", "# pandas", "", "\tpandas\t>=2"),
    *("pandas[a,b] >=2, <5", "pandas (>=2)", "pandas===2.0", "pandas==2.*", "pandas!=2.*,>1,"),
    *("x==v1.0", "x==1.0c1", "x==1!2.0", "x==1.0+local.1", "x == 1.0-1", "x~=1.0"),
    *("x;sys_platform=='win32'", "x ; os_name == 'posix' and (python_version > '3')"),
    *(f"pandas==2.0 --hash={HASH}", f"pandas==2.0 \\\n --hash={HASH} \\\n --hash={HASH}"),
    *("--no-index", "--require-hashes", "--no-binary :all:", "--only-binary=pandas # c"),
    *("-i https://h/simple", "--extra-index-url=https://u:p@h/simple --no-index", "-i=https://h/s"),
    *("-f https://h/x", "-r https://h/r.txt", "--requirement https://h/r.txt", "-c https://h/c"),
    *("https://h/x-1.0-py3-none-any.whl", "https://h/x.tar.gz", "https://h/x.zip#egg=b"),
    *("x @ https://h/x-1.0-py3-none-any.whl", "x@https://h/x-1.0-py3-none-any.whl"),
    "x[a] @ https://h/x-1.0-py3-none-any.whl ; python_version > '3'",
    *("git+https://h/a/b#egg=b", "b @ git+https://h/a/b@main#subdirectory=x", "git+ssh://git@h/a"),
    *("b @ git+https://u:p@h/a/b.git", "b @ git+ssh://git@h:22/a/b.git@v1", "git+http://h/x"),
    "-i https://${TOKEN}@h/simple",
]
ACCEPTED += [
    *(f"x==1 --hash=md5:{'0' * 32}", f"x==1 --hash=blake2b:{'a' * 64}", "--no-binary=:none:"),
    *(f"x @ https://h/x-1-py3-none-any.whl#sha256={'0' * 64}", "x @ https://h/x.zip"),
    *("x.y @ https://h/X_Y-1-1-py3-none-any.whl?t=1", "x @ https://h/x-1%2Bcu-py3-none-any.whl"),
    *("--require-hashes\nx===1 --hash=" + HASH, "x==1\nx==1.0", "x==1+cu\nx==1\nX>=1"),
    *("x==1; python_version > '3'\nx==2; python_version < '3'", "x==1a1\nx>0"),
]
TRANSLATED = [
    f"-e git+https://h/a/b@{COMMIT}#egg=b",
    f"-e git+https://h/a/b.git@{COMMIT}#egg=b[c]&subdirectory=d",
    *("-e b @ git+https://h/a/b", "--editable=git+https://h/a/b#egg=b", "-egit+ssh://git@h/a/b"),
    "-e git+https://h/a/b#egg=b ; python_version > '3'",
    "-e https://h/x.zip",
    *('x --config-settings "a=b"', "x --config-setting=a=b", f"x -C a=b --hash={HASH}"),
    *("--pre", "--pre --no-index", "--trusted-host h", "--trusted-host=h:8080"),
    *("-rhttps://h/r.txt", "-chttps://h/c.txt", "-ihttps://h/simple", "-fhttps://h/x"),
    *("--no-binary=a,b", "--only-binary a,b"),
]
WITHOUT_EFFECT = ["--prefer-binary", "--use-feature=fast-deps"]
# uv would look for these among the node's files.
FILES = [
    *("x @ ./dist/x.whl", "x @ dist/x.whl", "dist/x.whl", "x.whl", "x-1.0.tar.gz", "x @ file:///x"),
    *(
        "C:\\x",
        "C:/x",
        "\\\\host\\share\\x",
        "$HOME/x",
        "${HOME}/x",
        "x @ ${HOME}/x",
        "~/x",
        "~u/x",
    ),
    *(".", "./x", "../x", "/x", "file:///x", "file:x", "git+file:///x", "-e file:///x"),
    *("git@h:a/b.git", "name: foo", "ssh://h/x", "s3://b/x.whl", "x @ ftp://h/x.whl", "s3://b/x y"),
    *("-e .", "-e./x", "--find-links=/tmp"),
]
REFUSED = [
    *("-r x.txt", "-rx.txt", "-c x.txt", "--requirement=x.txt", "-f ./x"),
    *("--index-url ./x", "--extra-index-url x", "-r file:///x"),
    *("hg+https://h/x", "x @ svn+https://h/x", "bzr+https://h/x", "git+git://h/x"),
    *("https://h/x", "x @ https://h/x", "git+git@h:a/b.git", "b @ git+ssh://git@h:a/b.git"),
    "x @ https://h/x-1.0-py3-none-any.whl;python_version>'3'",
    *("x = 2", "x=2", "x=>2", "x>=2.*", "x~=2", "x 2", "x[", "x[a b]", "x>=1 <2", "x (>=1", "x<>1"),
    *("x!1", "x@1.0", "x;", "x; foo", "x; python_version > 3", "x===foo", "x==1.0_1", "x>=2#c"),
    *("x==${VERSION}", "x>1.0+local", "x==1 .0", "x,", "x, y", "x y", "_x", "x_", "x-", "=x", "@x"),
    *("[section]", "pip install x", "import os", "- x", '"x"', "!x", "é", "%x", ";x"),
    *("-r", "-e", "--index-url", "--no-index=1", "--hash=sha256:00", "x --pre"),
    *("x --no-binary y", "x --global-option=x", "--global-option=x", "--index https://h/s"),
    *("--timeout 60", "--no-deps", "-U", "-q", "--foo", "--config-settings=a=b"),
    "-i https://${NOWHERE}@h/simple",
    *("x==1 --hash=sha256:00", "x==1 --hash=sha256", f"x==1 --hash=sha1:{'0' * 40}", "x==1 --hash"),
    *(f"x==1 --hash=sha256:{'g' * 64}", f"x==1 --hash=SHA256:{'0' * 64}", "x==1 --hash=foo:00"),
    *("--no-binary=a,", "--only-binary=,a", "--no-binary=a_b!", "--no-binary a b", "--no-binary="),
    "x @ https://h/x-1-py3-none-any.whl#sha256=00",
]
UNRESOLVABLE = [
    *("https://h/x.whl", "https://h/x-1.0.whl", "https://h/x-1.0-py3-none.whl"),
    *("x @ https://h/y-1.0-py3-none-any.whl", "x @ https://h/x-foo-py3-none-any.whl"),
    *("https://h/-1.0-py3-none-any.whl", "x @ https://h/x-1.0.tar.bz2", "x @ https://h/x.tgz"),
    f"x @ git+https://h/a --hash={HASH}",
]
"""Lines that uv refuses after it has parsed them."""
CONTRADICTORY = [
    *("x==1\nx==2", "x==1\nX>=2", "x==1\nx!=1", "x[a]==1\nx[b]==2", "x==1.*\nx==2", "x==1,==2"),
    *("y\nx_y==1\nx.y==2", "-i https://h/s\n--index-url https://h/t", "--require-hashes\nx==1"),
    *(f"--require-hashes\nx>=1 --hash={HASH}", f"--require-hashes\nx==1.* --hash={HASH}"),
    *("--require-hashes\nx @ https://h/x.zip", f"--require-hashes\nx==1 --hash={HASH}\ny"),
]


def errors(text: str) -> list[str]:
    return [
        fault.cause
        for fault in check_requirements(text, {"TOKEN"})
        if fault.severity is Severity.ERROR
    ] + [cause for _, cause, _ in find_conflicts(logical_lines(text))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cache, so that uv looks at this Python only once."""
    return tmp_path_factory.mktemp("uv")


def run_uv(text: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the uv of this venv on `text`; it sends nothing, and exits with 2 if it cannot parse a line."""
    (folder / "requirements.txt").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("uv")), "pip", "install", "--offline"),
            *("--no-config", "--dry-run", "--cache-dir", str(folder / "cache")),
            *("--python", sys.executable, "--requirement", "requirements.txt", *options),
        ],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1, 2), done.stderr
    assert "unsupported option" not in done.stderr
    return done


def is_accepted_by_uv(text: str, options: tuple[str, ...], folder: Path) -> bool:
    """Return whether uv accepts `text`."""
    done = run_uv(text, folder, *options)
    # A file from the network is parsed after it was fetched.
    return done.returncode != 2 or "Network connectivity is disabled" in done.stderr


def test_uv_accepts_each_accepted_line(folder: Path) -> None:
    lines = [*ACCEPTED, *TRANSLATED, *WITHOUT_EFFECT]
    assert [(line, errors(line)) for line in lines if errors(line)] == []
    changed = {line for line in lines if translate(line).text != line}
    assert changed == {*TRANSLATED, *WITHOUT_EFFECT}
    assert [line for line in lines if not is_accepted_by_uv(*translate(line), folder)] == []


def test_uv_refuses_each_line_that_is_translated(folder: Path) -> None:
    # uv ignores the others, with a warning.
    lines = [line for line in TRANSLATED if not line.startswith(("--pre", "--trusted-host"))]
    assert [line for line in lines if is_accepted_by_uv(line, (), folder)] == []


def test_uv_refuses_each_refused_line(folder: Path) -> None:
    assert [line for line in REFUSED if len(errors(line)) != 1] == []
    lines = [line for line in REFUSED if "${NOWHERE}" not in line]  # uv sends it literally
    assert [line for line in lines if is_accepted_by_uv(translate(line).text, (), folder)] == []


def test_uv_cannot_install_what_is_refused_after_parsing(folder: Path) -> None:
    lines = [*UNRESOLVABLE, *CONTRADICTORY]
    assert [line for line in lines if len(errors(line)) != 1] == []
    found = {line: run_uv(line, folder) for line in lines}
    assert all(done.returncode for done in found.values())
    # Not because it is offline.
    words = ("Network connectivity", "in the cache")
    assert [line for line, done in found.items() if any(w in done.stderr for w in words)] == []


@pytest.mark.parametrize("line", FILES)
def test_local_file_is_refused(line: str) -> None:
    assert len(errors(line)) == 1


def test_nodes_install_the_uv_that_these_tests_run() -> None:
    pins = (Path(__file__).parents[1] / "constraints.txt").read_text(encoding="utf-8")
    assert f"uv=={UV_VERSION}" in pins.splitlines()


def test_translation_keeps_the_other_lines() -> None:
    text = """\
# Frozen on 2026-08-01
-e git+https://h/a/b@0123#egg=b
pandas==2.0 \\
  --hash=sha256:00 \\
  --hash=sha256:11  # both
x==1.0 \\
  -C a=b \\
  --config-settings="c=d e"
--pre
--trusted-host h
dask
"""
    assert translate(text) == snapshot(
        Translation(
            text="""\
# Frozen on 2026-08-01
b @ git+https://h/a/b@0123
pandas==2.0 \\
  --hash=sha256:00 \\
  --hash=sha256:11  # both
x==1.0    \n\


dask
""",
            options=(
                "--config-settings-package=x:a=b",
                "--config-settings-package=x:c=d e",
                "--prerelease=allow",
                "--allow-insecure-host=h",
            ),
        )
    )
    assert translate(text.replace("\n", "\r\n")).text == translate(text).text
    assert translate("pandas\n\ndask") == ("pandas\n\ndask", ())


def test_long_lines_are_checked_in_linear_time() -> None:
    blanks = " " * 250_000
    assert len(errors(f"x{blanks}y")) == 1
    assert len(errors(f"x[{blanks}] {blanks}>")) == 1
    assert translate(f"-e{blanks}git+https://h/x{blanks}").text == "git+https://h/x"
    assert pinned_dask(f"dask{blanks}== 1{blanks}x") is None


@pytest.mark.parametrize("character", ["\0", "\x0b", "\x1b", "\x7f", "\x1c"])
def test_control_characters_are_refused(character: str) -> None:
    # bash leaves out a zero byte, so that "EN\0D" would end the file in the script.
    text = f"pandas\nEN{character}D\nreboot\n"
    assert errors(text) == [f"it has a control character (U+{ord(character):04X})"]


@pytest.mark.parametrize(
    ("text", "is_named"),
    [
        *(("dask", True), ("Dask[distributed]>=2026", True), ("distributed==1 ; x=='y'", True)),
        *(("dask; python_version < '3'", False), ("dask; sys_platform != 'linux'", False)),
        *(("dask; os_name ~= 'x'", True), ("dask; python_version ~= 'x'", True)),
        *(("dask; nosuch == 'x'", True), ("dask; python_version < '3' --hash=sha256:0", False)),
        *(
            ("dask; python_version >= '3.11'", True),
            ("dask @ https://h/d.whl ; os_name=='nt'", False),
        ),
        *(("dask @ git+https://h/dask", True), ("https://h/distributed-1-py3-none-any.whl", True)),
        *(("-e git+https://h/dask.git", True), ("-r https://h/r.txt", True), ("dask", True)),
        *(("dask-ml", False), ("dask_cuda", False), ("pandas  # dask", False), ("", False)),
        *(("mydask", False), ("-i https://h/simple", False), ("coiled\nx", False)),
    ],
)
def test_dask_is_named(text: str, is_named: bool) -> None:
    assert names_dask(text) == is_named


@pytest.mark.parametrize(
    ("text", "version"),
    [
        *(("dask==2026.8.0", "2026.8.0"), ("pandas\ndask[complete] == 2025.3.0", "2025.3.0")),
        *(("distributed==2026.8.0 --hash=sha256:00", "2026.8.0"), ("dask>=2026.8.0", None)),
        ("dask==2026.1.2\ndistributed == 2026.1.1 ; python_version > '3'", "2026.1.1"),
        ("dask==2025.3.0 ; python_version < '3.11'\ndask==2026.8.0", None),
        *(("dask==2026.8.*", None), ("dask-ml==2025.1.0", None), ("dask", None), ("", None)),
    ],
)
def test_pinned_version_of_dask(text: str, version: str | None) -> None:
    assert pinned_dask(text) == version


@pytest.mark.parametrize(
    ("packages", "has_problem"),
    [
        (("dask==2025.1.0", "distributed==2026.8.0"), True),
        (("distributed==2026.8.0", "dask[complete]==2026.7.1"), True),
        (("dask==2026.8.0", "distributed==2026.8.1"), False),
        (("dask==2026.8.*", "distributed==2026.8.1"), False),
        (("dask===main", "distributed==2026.8.1"), False),
        (("dask>=2025.1", "distributed==2026.8.1"), False),
        (("dask==2025.1.0; python_version < '3'", "distributed==2026.8.1"), False),
    ],
)
def test_dask_and_distributed_are_of_one_release(
    packages: tuple[str, ...], has_problem: bool
) -> None:
    lines = logical_lines("\n".join(packages))
    assert [line.text for line, _, _ in find_conflicts(lines)] == [*packages[1:]][:has_problem]
