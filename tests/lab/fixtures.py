"""Fixtures of the lab for any test: `from lab.fixtures import aws, lab  # noqa: F401`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import base
from lab.honest import Cloud, serve
from lab.machines import Machines


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """Empty AWS account on loopback, for this process and its children only."""
    with serve(Cloud()) as cloud:
        set_env(cloud.env, monkeypatch)
        yield cloud


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machines]:
    """AWS account whose instances are machines; the test runs outside of their network."""
    if reason := base.unavailable_reason():
        pytest.skip(reason)
    with Machines(tmp_path / "lab") as machines, machines.on_network():
        set_env(machines.env, monkeypatch)
        yield machines


def set_env(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process and its children use that account."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
