"""The `--set` options in a saved plan, which another person may have edited."""

import shlex

from planapply.model.diagnostics import PlanapplyError
from planapply.model.plan import Plan
from planapply.model.spec import REQUIREMENTS
from planapply.model.toml import KeyPath, format_key_path
from planapply.specfile import parse_override_key

_MAX_KEYS = 10
_SAFE_KEYS = {
    "cluster": {"idle_timeout", "join_timeout", "no_client_timeout", "tags", "ttl"},
    "node": {
        "count",
        "min",
        "max",
        "processes",
        "size",
        "spot",
        "tags",
        "zones",
        "disk",
        *REQUIREMENTS,
    },
}
"""Keys that neither run code nor open the cluster to anyone, whatever their value."""


def saved_overrides(planfile: str, saved_plan: Plan) -> list[str]:
    """Return the `--set` options in a plan file.

    Raise PlanapplyError for an option that could run code on the nodes or open the cluster: the file may
    have been edited, so the command must repeat such an option.
    """
    unsafe = unsafe_overrides(saved_plan)
    if unsafe:
        # Not their values: anyone who edited the file could have them pasted into a shell.
        keys = [f"`{_show_key(option)}`" for option in unsafe]
        more = len(keys) - _MAX_KEYS
        raise PlanapplyError(
            "cannot take all options from the plan file: they set "
            + ", ".join(keys[:_MAX_KEYS])
            + (f", and {more:,} more" if more > 0 else ""),
            "Such a key can run code on the nodes, and the file may have been edited. If you set it, repeat "
            f"every --set of your `planapply plan` after `planapply apply {shlex.quote(planfile)}`.",
            code="plan_options_missing",
        )
    return list(saved_plan.overrides)


def _show_key(option: str) -> str:
    key = format_key_path(parse_override_key(option))
    return key if len(key) <= 80 else f"{key[:80]}…"


def unsafe_overrides(plan: Plan) -> list[str]:
    """Return the `--set` options of a plan that `apply` must repeat."""
    return [option for option in plan.overrides if not _is_safe(parse_override_key(option))]


def _is_safe(path: KeyPath) -> bool:
    table = str(path[0]) if path else ""
    if table == "workers" and len(path) > 2:
        return path[2] in _SAFE_KEYS["node"]
    kind = "node" if table in ("defaults", "scheduler") else table
    return len(path) > 1 and path[1] in _SAFE_KEYS.get(kind, ())
