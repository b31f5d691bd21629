"""What a node runs: pure, from its config, its name and what it must know of the cluster."""

from planapply.bootstrap.console import SHUTDOWN, own_lines
from planapply.bootstrap.processes import boots, dask_spec
from planapply.bootstrap.userdata import user_data

__all__ = ["SHUTDOWN", "boots", "dask_spec", "own_lines", "user_data"]
