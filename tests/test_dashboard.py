"""The note about a dashboard without plots, and the commands that leave out its dead URL."""

from pathlib import Path

import pytest
from cli.conftest import folder, run  # noqa: F401
