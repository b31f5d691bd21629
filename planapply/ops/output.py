"""output: the addresses and identity of a running cluster, as flat values."""

from planapply.model.diagnostics import PlanapplyError
from planapply.model.state import State
from planapply.specfile.dashboard import missing_plots_of


def outputs(state: State) -> dict[str, str | None]:
    """Return every output by its name; None for one without a value, such as a missing public address,
    or a dashboard without plots.

    Raises PlanapplyError if there is no scheduler.
    """
    endpoint = state.endpoint
    if endpoint is None:
        raise PlanapplyError(
            f"cluster {state.cluster!r} has no scheduler",
            "Run `planapply apply` to launch it, or `planapply status` to see what exists.",
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
        "dashboard_url": None if missing_plots_of(state) else endpoint.dashboard,
    }


def output(state: State, name: str) -> str:
    """Return one output; raise PlanapplyError if it is unknown or has no value."""
    values = outputs(state)
    if name not in values:
        raise PlanapplyError(f"there is no output {name!r}", f"Outputs: {', '.join(values)}.")
    value = values[name]
    if value is None:
        if name == "dashboard_url" and (missing := missing_plots_of(state)):
            raise PlanapplyError(
                f"the output {name!r} has no value: {missing.summary}", missing.detail
            )
        known = ", ".join(key for key, value in values.items() if value)
        raise PlanapplyError(
            f"the output {name!r} has no value",
            "It is known after an apply that waited for the scheduler (without --no-wait)."
            if name == "dashboard_url"
            else f"Outputs with a value: {known}.",
        )
    return value
