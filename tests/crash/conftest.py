"""A site whose cloud hangs on demand, for tests of signals."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crash.environment import Environment, local_environment
from crash.forkserver import ForkServer
from crash.project import Project
from lab.fixtures import aws

__all__ = ["aws", "environment", "new_project", "project"]


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Environment]:
    info = tmp_path / "site" / "hanging_planapply-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hanging-planapply\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[planapply.providers]\nhanging = crash.hanging_plugin:PLUGIN\n"
    )
    with local_environment(tmp_path / "ground") as environment:
        path = f"{info.parent}:{environment.env['PYTHONPATH']}"
        environment.env = {**environment.env, "PYTHONPATH": path}
        yield environment


@pytest.fixture
def new_project(
    environment: Environment, tmp_path: Path, fork_server: ForkServer
) -> Iterator[Callable[[str], Project]]:
    projects = []

    def new(state: str) -> Project:
        projects.append(Project(environment, tmp_path, state, fork_server))
        return projects[-1]

    yield new
    for project in projects:
        for process in project.processes:
            process.kill()
            process.communicate()


@pytest.fixture
def project(new_project: Callable[[str], Project], tmp_path: Path) -> Project:
    return new_project(str(tmp_path / "signals.json"))
