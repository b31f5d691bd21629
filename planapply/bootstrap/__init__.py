"""The processes and scripts of a node: pure functions of its configuration and its cluster."""

from planapply.bootstrap.console import MAX_SHUTDOWN_LINES, extract_node_lines, find_end_reason
from planapply.bootstrap.processes import build_processes, dask_spec
from planapply.bootstrap.steps import END_MARKER, NOTICE_TOPIC, START_MARKER
from planapply.bootstrap.userdata import build_user_data

__all__ = [
    "END_MARKER",
    "MAX_SHUTDOWN_LINES",
    "NOTICE_TOPIC",
    "START_MARKER",
    "build_processes",
    "build_user_data",
    "dask_spec",
    "extract_node_lines",
    "find_end_reason",
]
