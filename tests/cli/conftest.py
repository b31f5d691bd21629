"""Fixtures: an empty folder, the fake cloud as an installed provider, and functions that run commands."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli import fake_plugin
from cli.commands import SPEC, Result, Run
from fake_provider import FakeCloud

from planapply import catalog
from planapply.cli import main

TESTS = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, with an empty home and a clean environment."""
    for name in [n for n in os.environ if n.startswith(("DASK_", "PLANAPPLY_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder for sys.path, in which the provider `fake` is installed."""
    info = tmp_path / "site" / "fake_planapply-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-planapply\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[planapply.providers]\nfake = cli.fake_plugin:PLUGIN\n")
    return info.parent


@pytest.fixture
def cloud(folder: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCloud]:
    """A fresh cloud behind the provider `fake`, and a spec that uses it in the current folder."""
    monkeypatch.syspath_prepend(str(site))
    catalog._entries.cache_clear()
    fake_plugin.CLOUD[0] = fake_plugin.new_cloud()
    (folder / "planapply.toml").write_text(SPEC)
    yield fake_plugin.CLOUD[0]
    catalog._entries.cache_clear()


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs a command in this process."""

    def run(*arguments: str) -> Result:
        capsys.readouterr()
        code = main(arguments)
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture
def environment(folder: Path, site: Path) -> dict[str, str]:
    """The environment for commands in separate processes, with the provider `fake`."""
    paths = [str(site), str(TESTS), *(path for path in sys.path if path)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
