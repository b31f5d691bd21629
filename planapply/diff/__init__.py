"""From (spec, state, observed) to a plan; pure: no I/O, no clock."""

from planapply.diff.changes import DiffOptions, create_destroy_plan, create_plan, select
from planapply.diff.fields import is_current
from planapply.diff.refresh import RefreshResult, refresh

__all__ = [
    "DiffOptions",
    "RefreshResult",
    "create_destroy_plan",
    "create_plan",
    "is_current",
    "refresh",
    "select",
]
