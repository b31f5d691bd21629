"""Fixtures: the lab's EC2 without machines, and a spec for it."""

from pathlib import Path

import pytest
from ec2.project import Project
from lab.fixtures import aws  # noqa: F401
from lab.honest import Cloud


@pytest.fixture
def project(tmp_path: Path, aws: Cloud) -> Project:  # noqa: F811
    return Project(tmp_path, aws)
