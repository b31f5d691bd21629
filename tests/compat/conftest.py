"""A folder of one's own, and kept clusters in it."""

from cli.conftest import folder, run

__all__ = ["folder", "run"]
