"""Fixtures of the lab, for the lab's own tests."""

from lab.fixtures import aws, lab  # noqa: F401
