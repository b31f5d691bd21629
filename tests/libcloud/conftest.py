"""Fixtures: commands in an empty folder, and clouds that each test has for itself."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import httpstub
import pytest
from cli.commands import Result, Run
from httpstub import StartStub
from novalab.cloud import Cloud, serve
from planapply_libcloud.drivers import DRIVER_TABLE
from planapply_libcloud.drivers.openstack import OPENSTACK

from planapply.cli import main

TESTS = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty current and home folders, and an environment without credentials."""
    for name in [n for n in os.environ if n.startswith(("DASK_", "PLANAPPLY_", "XDG_", "OS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Function that runs one command in this process."""

    def run(*arguments: str) -> Result:
        capsys.readouterr()
        code = main(arguments)
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[StartStub]:
    """Cloud that serves every host from this machine: see `httpstub`."""
    monkeypatch.setenv("CLOUD_KEY", "the-key")
    monkeypatch.setenv("CLOUD_SECRET", "the-secret")
    with ExitStack() as stack:
        yield lambda folder: stack.enter_context(httpstub.serve(folder))


@pytest.fixture(scope="session")
def shared_nova() -> Iterator[Callable[[], Cloud]]:
    """Nova, started for the first test that needs it; empty for each test."""
    running: list[Cloud] = []
    contexts = []

    def start() -> Cloud:
        if not running:
            contexts.append(serve())
            running.append(contexts[0].__enter__())
        return running[0]

    yield start
    for context in contexts:
        context.__exit__(None, None, None)


@pytest.fixture
def nova(
    shared_nova: Callable[[], Cloud], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cloud]:
    """OpenStack without servers, with its quota of 10, and without delays."""
    cloud = shared_nova()
    assert cloud.wait_until_idle() == []
    cloud.clear()
    cloud.quota(10)
    for name, value in cloud.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(
        DRIVER_TABLE, "openstack", replace(OPENSTACK, consistency_delay=2.0, poll=0.1)
    )
    yield cloud
    cloud.clear()
    cloud.remove_all()


@pytest.fixture
def environment(folder: Path, nova: Cloud) -> dict[str, str]:
    """Environment for commands in their own process."""
    paths = [str(TESTS), *(path for path in sys.path if path)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
