"""Fixtures of the lab for any test: `from lab.fixtures import aws  # noqa: F401`."""

from collections.abc import Iterator

import pytest

from lab.honest import Cloud, serve


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """An empty AWS account on loopback, which this process and its children use and no other."""
    with serve(Cloud()) as cloud:
        for name, value in cloud.env.items():
            monkeypatch.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        yield cloud
