"""A folder of one's own."""

from cli.conftest import folder, run

__all__ = ["folder", "run"]
