"""The processes and scripts of a node: pure functions of its configuration and its cluster."""

from planapply.bootstrap.console import MAX_SHUTDOWN_LINES, extract_node_lines
from planapply.bootstrap.processes import build_processes, dask_spec
from planapply.bootstrap.userdata import build_user_data

__all__ = [
    "MAX_SHUTDOWN_LINES",
    "build_processes",
    "build_user_data",
    "dask_spec",
    "extract_node_lines",
]
