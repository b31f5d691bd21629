"""The comparison of the desired state, the state, and what exists. Pure: no I/O, no clock."""

from planapply.diff.edited import edited_settings
from planapply.diff.fields import is_current
from planapply.diff.plans import (
    DiffOptions,
    Protected,
    create_destroy_plan,
    create_plan,
    create_refresh_plan,
    select,
)
from planapply.diff.refresh import Observation, RefreshResult, refresh
from planapply.diff.resize import create_resize_plan
from planapply.diff.waves import Waves, loses_results

__all__ = [
    "DiffOptions",
    "Observation",
    "Protected",
    "RefreshResult",
    "Waves",
    "create_destroy_plan",
    "create_plan",
    "create_refresh_plan",
    "create_resize_plan",
    "edited_settings",
    "is_current",
    "loses_results",
    "refresh",
    "select",
]
