"""From (spec, state, observed) to a plan; pure: no I/O, no clock."""

from planapply.diff.changes import Options, destroy_plan, make_plan, select
from planapply.diff.fields import is_current
from planapply.diff.refresh import Refreshed, refresh

__all__ = [
    "Options",
    "Refreshed",
    "destroy_plan",
    "is_current",
    "make_plan",
    "refresh",
    "select",
]
