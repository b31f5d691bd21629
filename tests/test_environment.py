"""Packages and variables of `[environment]`, as a spec's author sees their problems."""

import json
import shutil
from pathlib import Path

import pytest
from inline_snapshot import snapshot
from specs import format_problems, load_text

HEAD = """\
[cluster]
name = "x"
provider = "cloud"
[environment]
"""


def test_requirements_that_nodes_cannot_install(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text(
        "dask==2026.8.0\n"
        "x = 2\n"
        "b @ git+https://user:hunter2@h/a/b.git \\\n  --global-option=x\n"
        "-i https://${TOKEN}@h/simple\n"
        "-i https://${SECRET}@h/simple\n"
        "--prefer-binary\n"
        "torch==2.5.1+cu121\n"
        "pkg_resources==0.0.0\n"
        "python-apt==2.4.0+ubuntu3\n"
        "pywin32==306\n"
        "pywin32==306 ; sys_platform == 'win32'\n"
        "hg+https://h/x\n"
        "EN\0D\nreboot now\n"
    )
    text = f'{HEAD}requirements = "r.txt"\nenv = {{ TOKEN = "t" }}\n'
    found = format_problems(tmp_path, text)
    assert "hunter2" not in found
    assert found == snapshot("""\
line 5, column 1: requirements = "r.txt"
cannot install "-i https://…@h/simple", line 6 of r.txt: --index-url is given twice
  Use --extra-index-url for the second one.

line 5, column 1: requirements = "r.txt"
cannot install "EN\\u0000D", line 14 of r.txt: it has a control character (U+0000)
  Remove it.

line 5, column 1: requirements = "r.txt"
cannot install "x = 2", line 2 of r.txt: it is not a valid requirement
  Write it in pip's format, such as "pandas>=2" or "NAME @ https://HOST/NAME-1.0.tar.gz".

line 5, column 1: requirements = "r.txt"
cannot install "b @ git+https://…@h/a/b.git   --global-option=x", line 3 of r.txt: uv does not support --global-option
  Remove it.

line 5, column 1: requirements = "r.txt"
cannot install "-i https://…@h/simple", line 6 of r.txt: the nodes do not have ${SECRET}
  Set it in environment.env.

line 5, column 1: requirements = "r.txt"
cannot install "hg+https://h/x", line 13 of r.txt: uv does not support hg+https:// URLs
  Write NAME @ git+https://HOST/OWNER/REPOSITORY@COMMIT.

line 5, column 1: requirements = "r.txt"
cannot install "reboot now", line 15 of r.txt: it is not a valid requirement
  Write it in pip's format, such as "pandas>=2" or "NAME @ https://HOST/NAME-1.0.tar.gz".

line 5, column 1: requirements = "r.txt"
cannot install "pkg_resources==0.0.0", line 9 of r.txt: there is no such package; Debian's pip lists it by mistake
  Remove it.

line 5, column 1: requirements = "r.txt"
cannot install "pywin32==306", line 11 of r.txt: it does not exist for Linux
  Remove it, or write pywin32==306 ; sys_platform != 'linux'.
""")


def test_own_index_may_have_more(tmp_path: Path) -> None:
    packages = 'packages = ["dask", "torch==2.5.1+cu121", "ufw"]\n'
    assert format_problems(tmp_path, HEAD + packages) == snapshot("""\
line 5, column 21: packages = ["dask", "torch==2.5.1+cu121", "ufw"]
cannot install "torch==2.5.1+cu121": PyPI has no local versions
  Write torch==2.5.1, or name its index: env = { UV_EXTRA_INDEX_URL = "https://…" }.

line 5, column 43: packages = ["dask", "torch==2.5.1+cu121", "ufw"]
cannot install "ufw": it is part of an operating system or of conda, and not on PyPI
  Remove it, or install it in environment.setup.
""")
    index = 'env = { UV_EXTRA_INDEX_URL = "https://h/simple" }\n'
    assert format_problems(tmp_path, HEAD + packages + index) == ""
    # The uv of an own image may have another index, but probably does not.
    image = '[defaults]\nimage = "mine"\n'
    assert format_problems(tmp_path, HEAD + packages + image).count("warning\n") == 2
    (tmp_path / "r.txt").write_text("--extra-index-url https://h/s\ndask\ntorch==2.5.1+cu121\n")
    assert format_problems(tmp_path, f'{HEAD}requirements = "r.txt"\n') == ""


def test_environment_without_dask(tmp_path: Path) -> None:
    assert format_problems(tmp_path, f'{HEAD}packages = ["dask-ml"]\n') == snapshot("""\
warning
line 5, column 1: packages = ["dask-ml"]
the environment names neither dask nor distributed
  Nodes without Dask do not start: add dask[distributed], unless another package needs it.
""")
    (tmp_path / "r.txt").write_text("# nothing\n\n")
    assert format_problems(tmp_path, f'{HEAD}requirements = "r.txt"\n') == snapshot("""\
line 5, column 1: requirements = "r.txt"
r.txt has no packages
  Add dask[distributed].
""")
    (tmp_path / "r.txt").write_text("-r https://h/r.txt\n")
    assert format_problems(tmp_path, f'{HEAD}requirements = "r.txt"\n') == ""


@pytest.mark.parametrize("version", ["3.9", "3.12", "3.15.1"])
def test_versions_of_python(tmp_path: Path, version: str) -> None:
    text = f'{HEAD}python = "{version}"\npackages = ["dask[distributed]"]\n'
    assert format_problems(tmp_path, text) == ""


def test_versions_of_python_without_dask(tmp_path: Path) -> None:
    text = HEAD + 'python = "VERSION"\npackages = ["dask[distributed]"]\n'
    assert format_problems(tmp_path, text.replace("VERSION", "3.99")) == snapshot("""\
warning
line 5, column 1: python = "3.99"
Python 3.99 may not exist
  The newest version that planapply knows is 3.15.
""")
    assert format_problems(tmp_path, text.replace("VERSION", "3.4")) == snapshot("""\
warning
line 5, column 1: python = "3.4"
Dask does not run on Python 3.4
  Choose a version between 3.9 and 3.15.
""")


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_setup_that_bash_cannot_parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        HEAD
        + "setup = "
        + json.dumps(
            ["if true", "echo 'hunter2", "a | | hunter2", "cat <<END\nx\nEND", "echo done >ran"]
        )
    )
    (tmp_path / "env").write_text("echo started >ran\n")
    monkeypatch.setenv("BASH_ENV", str(tmp_path / "env"))
    monkeypatch.chdir(tmp_path)
    found = format_problems(tmp_path, text)
    assert "hunter2" not in found
    assert found == snapshot("""\
warning
line 5, column 9: setup = …
bash cannot parse command 1 of `setup`: it is not complete
  Dask would not start on the nodes. Each command has its own bash.

warning
line 5, column 9: setup = …
bash cannot parse command 2 of `setup`: it is not complete
  Dask would not start on the nodes. Each command has its own bash.

warning
line 5, column 9: setup = …
bash cannot parse command 3 of `setup`: it has a syntax error
  Dask would not start on the nodes. Each command has its own bash.
""")
    assert not (tmp_path / "ran").exists()


def install(site: Path, name: str, version: str = "1.0", **files: object) -> None:
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    for file, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / {"direct_url": "direct_url.json"}.get(file, file)).write_text(text)


def client(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], str]:
    """Return the packages of a client that has only those of `folder`, and the problems reported."""
    with monkeypatch.context() as patch:
        patch.setattr("sys.path", [str(folder / "site")])
        patch.setattr("sys.prefix", str(folder / "prefix"))
        text = f'{HEAD}packages = "client"\n'
        said = format_problems(folder, text)
        try:
            found = load_text(folder, text)[0].client
            packages = list(found.packages if found else ())
        except Exception:
            packages = []
    return packages, said


def test_client_in_a_conda_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    built = {"url": "file:///home/conda/feedstock_root/build_artifacts/x/work", "dir_info": {}}
    install(site, "dask", "2026.8.0", INSTALLER="conda\n", direct_url=built)
    install(site, "distributed", "2026.8.0", INSTALLER="conda\n", direct_url=built)
    install(site, "numpy", "2.0", INSTALLER="pip\n", direct_url=built)
    meta = tmp_path / "prefix" / "conda-meta"
    meta.mkdir(parents=True)
    for name in ("numpy-2.0-py312h1", "typing_extensions-4.15.0-pyhd8_0", "history"):
        (meta / f"{name}.json").write_text("{}")
    install(site, "typing_extensions", "4.15.0", INSTALLER="pip\n", direct_url=built)
    install(site, "pandas", "3.0", INSTALLER="pip\n")
    mine = {"url": "file:///home/me/mine", "dir_info": {"editable": True}}
    install(site, "mine", INSTALLER="pip\n", direct_url=mine)
    install(site, "conda", "26.1", INSTALLER="conda\n", direct_url=built)
    packages, said = client(tmp_path, monkeypatch)
    assert packages == [
        *("dask==2026.8.0", "distributed==2026.8.0", "numpy==2.0", "pandas==3.0"),
        "typing-extensions==4.15.0",
    ]
    assert said == snapshot("""\
warning
line 5, column 1: packages = "client"
cannot install mine on the nodes: installed here from a local folder
  The nodes will not have it. Publish the package, or install it in `setup`.

warning
line 5, column 1: packages = "client"
cannot install conda on the nodes: part of an operating system or of conda, and not on PyPI
  The nodes will not have it. Run planapply from a virtual environment without it.
""")


def test_client_with_packages_that_nodes_cannot_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    install(site, "dask", "2026.8.0")
    install(site, "pkg_resources", "0.0.0")
    install(site, "python-apt", "2.4.0+ubuntu3")
    install(site, "pywin32", "306")
    packages, said = client(tmp_path, monkeypatch)
    assert packages == ["dask==2026.8.0"]
    assert said == snapshot("""\
warning
line 5, column 1: packages = "client"
cannot install python-apt on the nodes: part of an operating system or of conda, and not on PyPI
  The nodes will not have it. Run planapply from a virtual environment without it.

warning
line 5, column 1: packages = "client"
cannot install pywin32 on the nodes: not available for Linux
  The nodes will not have it.
""")
    install(site, "torch", "2.5.1+cu121")
    assert "cannot install" in client(tmp_path, monkeypatch)[1]
    assert client(tmp_path, monkeypatch)[1] == snapshot("""\
line 5, column 1: packages = "client"
cannot install "torch==2.5.1+cu121": PyPI has no local versions
  Write torch==2.5.1, or name its index: env = { UV_EXTRA_INDEX_URL = "https://…" }.
""")


def test_client_without_dask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", "pandas")
    assert client(tmp_path, monkeypatch)[1] == snapshot("""\
line 5, column 1: packages = "client"
cannot install Dask on the nodes: this Python has neither dask nor distributed from an index
  Install them from a package index, or list the packages: packages = ["dask", …].
""")
    install(tmp_path / "site", "torch", "2.5.1+cu121")
    found = client(tmp_path, monkeypatch)[1]
    assert "PyPI has no local versions" in found
    assert "neither dask nor distributed" in found


def test_variables(tmp_path: Path) -> None:
    env = """\
packages = ["dask"]
[environment.env]
PATH = "/x"
PYTHONPATH = "$HOME/lib:$PYTHONPATH"
LD_LIBRARY_PATH = "/x:${LD_LIBRARY_PATH}"
PASSWORD = "hunter2$HOME"
CACHE_DIR = "${TMPDIR}/cache"
DATA_DIR = "~/data"
MANPATH = "/x${MANPATH:+:$MANPATH}"
SPILL_DIR = "/x/$(hostname)/~"
"""
    found = format_problems(tmp_path, HEAD + env)
    assert found == snapshot("""\
warning
line 7, column 1: PATH = "/x"
`PATH` of the nodes lacks /usr/bin: their setup cannot find any command
  Extend it: "FOLDER:$PATH".

warning
line 8, column 1: PYTHONPATH = "$HOME/lib:$PYTHONPATH"
`PYTHONPATH` of the nodes will contain $HOME literally
  Only $PYTHONPATH or ${PYTHONPATH} is replaced, by the node's own value. Write the path.

warning
line 10, column 1: PASSWORD = …
`PASSWORD` looks like a credential, and its value is in the spec, the state, and saved plans
  Write PASSWORD = "env:PASSWORD", and set PASSWORD where planapply runs.

warning
line 11, column 1: CACHE_DIR = "${TMPDIR}/cache"
`CACHE_DIR` of the nodes will contain ${TMPDIR} literally
  Only $CACHE_DIR or ${CACHE_DIR} is replaced, by the node's own value. Write the path.

warning
line 12, column 1: DATA_DIR = "~/data"
`DATA_DIR` of the nodes will contain ~ literally
  Only $DATA_DIR or ${DATA_DIR} is replaced, by the node's own value. Write the path.

warning
line 13, column 1: MANPATH = "/x${MANPATH:+:$MANPATH}"
`MANPATH` of the nodes will contain ${MANPATH…} literally
  Only $MANPATH or ${MANPATH} is replaced, by the node's own value. Write the path.

warning
line 14, column 1: SPILL_DIR = "/x/$(hostname)/~"
`SPILL_DIR` of the nodes will contain $( literally
  Only $SPILL_DIR or ${SPILL_DIR} is replaced, by the node's own value. Write the path.
""")
    env = 'packages = ["dask"]\nenv = { PATH = "/x:$PATH" }\n'
    assert format_problems(tmp_path, HEAD + env) == ""
    for folders in ("/x:/usr/bin:/bin", "/x:/bin", "${PATH}:/x"):
        env = f'packages = ["dask"]\nenv = {{ PATH = "{folders}" }}\n'
        assert format_problems(tmp_path, HEAD + env) == ""


def test_path_of_a_container_is_not_extended(tmp_path: Path) -> None:
    text = HEAD.replace("cloud", "account") + 'docker = "x"\nenv = { PATH = "/x:$PATH" }\n'
    assert format_problems(tmp_path, text) == snapshot("""\
line 6, column 9: env = { PATH = "/x:$PATH" }
cannot extend `PATH` in a container: planapply does not know the image's
  Write all of its folders, or set PATH in the image.
""")
    assert format_problems(tmp_path, text.replace(":$PATH", "")) == ""
