"""A group's own environment on a real cluster of this machine."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import planapply

pytestmark = pytest.mark.slow

SPEC = f"""
[cluster]
name = "own-{os.getpid()}"

[provider]
folder = "FOLDER"

[environment.env]
BOTH = "1"

[scheduler]
options = {{ dashboard = false }}

[workers.plain]
count = 1
class = "distributed.Worker"
options = {{ nthreads = 1 }}

[workers.own]
count = 1
class = "distributed.Worker"
options = {{ nthreads = 1 }}

[workers.own.environment.env]
OWN = "2"
"""


@pytest.fixture
def applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cluster with a group that has an environment of its own; it is destroyed after the test."""
    monkeypatch.chdir(tmp_path)
    Path("planapply.toml").write_text(SPEC.replace("FOLDER", str(tmp_path / "vms")))
    planapply.apply(progress=False)
    yield
    planapply.destroy(progress=False)


def test_variable_arrives_at_the_group_only(applied: None) -> None:
    def read() -> dict[str, str]:
        return {name: os.environ[name] for name in ("BOTH", "OWN") if name in os.environ}

    with planapply.connect() as client:
        found = {
            node: client.submit(read, workers=[node], pure=False).result()
            for node in ("plain-0", "own-0")
        }
    assert found == {"plain-0": {"BOTH": "1"}, "own-0": {"BOTH": "1", "OWN": "2"}}
    made = planapply.plan(overrides={"workers.own.environment.env.OWN": "3"})
    assert [(c.name, [f.path for f in c.fields]) for c in made.changes] == [
        ("own-0", ["environment.env.OWN"])
    ]
