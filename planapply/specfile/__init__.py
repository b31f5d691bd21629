"""The spec as a file: read, checked, explained, begun."""

from planapply.specfile.loading import load, protects, state_of, without_file
from planapply.specfile.schema import json_schema
from planapply.specfile.template import starter

__all__ = [
    "json_schema",
    "load",
    "protects",
    "starter",
    "state_of",
    "without_file",
]
