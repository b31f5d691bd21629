"""The spec file: reading, validation, JSON Schema, and starter specs."""

from planapply.specfile.loading import load, make_spec
from planapply.specfile.lookup import (
    find_cluster_name,
    find_hooks,
    find_provider,
    find_state_location,
    is_protected,
    read_hooks,
)
from planapply.specfile.override import parse_override_key
from planapply.specfile.schema import json_schema
from planapply.specfile.template import render_starter

__all__ = [
    "find_cluster_name",
    "find_hooks",
    "find_provider",
    "find_state_location",
    "is_protected",
    "json_schema",
    "load",
    "make_spec",
    "parse_override_key",
    "read_hooks",
    "render_starter",
]
