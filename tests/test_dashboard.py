"""The note about a dashboard without plots, and the commands that leave out its dead URL."""

from cli.conftest import folder, run  # noqa: F401
