"""Fixtures of the stores' tests."""

from lab.fixtures import aws  # noqa: F401
