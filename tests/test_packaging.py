"""The wheel, the sdist, and the pins: complete, typed, and without URLs."""

import json
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import distribution, entry_points
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import planapply

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def source_files(root: str) -> set[str]:
    """Return the files below a source root, relative to it."""
    folder = ROOT / root
    return {
        f"{path.relative_to(folder)}"
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def run(*command: str, **options: str) -> str:
    done = subprocess.run(command, text=True, capture_output=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist, and the wheel that is built from it."""
    out = tmp_path_factory.mktemp("dist")
    run(
        sys.executable,
        "-m",
        "uv",
        "build",
        "--quiet",
        "--offline",
        "--no-build-isolation",
        "--out-dir",
        str(out),
        str(ROOT),
    )
    return next(out.glob("*.tar.gz")), next(out.glob("*.whl"))


@pytest.mark.slow
def test_wheel_contains_exactly_both_source_roots(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        licenses = [name for name in wheel.namelist() if name.endswith("/licenses/LICENSE")]
    assert names == {f"planapply/{name}" for name in source_files("planapply")} | source_files(
        "providers"
    )
    assert {name for name in names if name.endswith("py.typed")} == {
        f"{package}/py.typed"
        for package in ("planapply", "planapply_ec2", "planapply_libcloud", "planapply_local")
    }
    assert len(licenses) == 1


@pytest.mark.slow
def test_sdist_contains_sources_and_tests(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as sdist:
        names = {name.split("/", 1)[1] for name in sdist.getnames()}
    expected = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "tests/test_packaging.py"}
    expected |= {
        f"{root}/{name}" for root in ("planapply", "providers") for name in source_files(root)
    }
    assert expected <= names


@pytest.mark.slow
def test_installed_wheel_loads_every_provider(built: tuple[Path, Path], tmp_path: Path) -> None:
    uv = (
        sys.executable,
        "-m",
        "uv",
        "pip",
        "install",
        "--quiet",
        "--offline",
        "--no-deps",
        "--no-config",
    )
    run(*uv, "--target", str(tmp_path / "site"), str(built[1]))
    script = (
        "import importlib.metadata as m, json, planapply, sys\n"
        "loaded = {e.name: e.load().name for e in m.entry_points(group='planapply.providers')}\n"
        "print(json.dumps([planapply.__file__, m.version('planapply'), loaded]))\n"
    )
    home, version, loaded = json.loads(
        run(sys.executable, "-c", script, cwd=str(tmp_path), env={"PYTHONPATH": "site"})
    )
    assert Path(home).is_relative_to(tmp_path)
    assert version == planapply.__version__
    assert loaded == {name: name for name in PROJECT["entry-points"]["planapply.providers"]}


def test_installed_metadata_matches_the_project() -> None:
    """Fail if the editable install is older than pyproject.toml."""
    assert distribution("planapply").version == planapply.__version__
    found = {entry.name: entry.value for entry in entry_points(group="planapply.providers")}
    assert found == PROJECT["entry-points"]["planapply.providers"]


def test_constraints_pin_every_dependency_without_urls() -> None:
    text = (ROOT / "constraints.txt").read_text()
    pins = dict(re.findall(r"^([\w.-]+)==([\w.+!]+)", text, re.MULTILINE))
    extras = PROJECT["optional-dependencies"]
    requirements = [*PROJECT["dependencies"], *extras["dev"], *extras["dashboard"]]
    wrong = [
        line
        for line, requirement in ((line, Requirement(line)) for line in requirements)
        if not requirement.specifier.contains(pins.get(canonicalize_name(requirement.name), "0"))
    ]
    assert wrong == []
    assert "/" not in text.replace(" / ", "")
