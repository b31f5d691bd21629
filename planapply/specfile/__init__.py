"""The spec as a file: read, checked, explained, begun."""

from planapply.specfile.loading import load

__all__ = ["load"]
