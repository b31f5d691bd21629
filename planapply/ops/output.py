"""output: what others need to know of a running cluster, flat."""

from planapply.model.diagnostics import PlanapplyError
from planapply.model.state import State


def outputs(state: State) -> dict[str, str | None]:
    """Every output by its name; None where there is no such thing, such as a public address.

    Raises PlanapplyError where there is no scheduler.
    """
    endpoint = state.endpoint
    if endpoint is None:
        raise PlanapplyError(
            f"cluster {state.cluster!r} has no scheduler",
            "`planapply apply` makes one; `planapply status` says what is there.",
        )
    return {
        **state.cloud,
        "cluster": state.cluster,
        "provider": state.provider,
        "lineage": state.lineage,
        "security": "none" if state.tls is None else "tls",
        "scheduler_address": endpoint.public or endpoint.private,
        "scheduler_address_private": endpoint.private,
        "scheduler_address_public": endpoint.public,
        "dashboard_url": endpoint.dashboard,
    }


def output(state: State, name: str) -> str:
    """One output; raises PlanapplyError for one that is unknown or has no value."""
    values = outputs(state)
    if name not in values:
        raise PlanapplyError(f"there is no output {name!r}", f"Outputs: {', '.join(values)}.")
    value = values[name]
    if value is None:
        known = ", ".join(key for key, value in values.items() if value)
        raise PlanapplyError(
            f"the output {name!r} has no value",
            "It is known once an apply has waited for the scheduler (without --no-wait)."
            if name == "dashboard_url"
            else f"With a value: {known}.",
        )
    return value
