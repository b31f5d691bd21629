"""env: the environment variables with which a bare `distributed.Client()` connects."""

from planapply.model.diagnostics import PlanapplyError
from planapply.model.state import Endpoint, State
from planapply.store import tlsfiles

_COMM = "DASK_DISTRIBUTED__COMM__"


def client_environment(state: State) -> dict[str, str]:
    """Return Dask's settings as environment variables; write the TLS key to files of mode 0600.

    Raises PlanapplyError if there is no scheduler, if the files cannot be written, and if their path
    cannot be printed.
    """
    endpoint = state.endpoint
    if endpoint is None:
        raise PlanapplyError(
            f"cluster {state.cluster!r} has no scheduler", "Create one with `planapply apply`."
        )
    # Each variable is always set, so that none of another cluster stays in the shell.
    variables = {
        "DASK_SCHEDULER_ADDRESS": _reachable_address(endpoint, state),
        f"{_COMM}REQUIRE_ENCRYPTION": str(state.tls is not None),
    }
    if state.tls is not None:
        certificate, key = tlsfiles.write(state.lineage, state.tls)
        if not (certificate + key).isprintable():
            raise PlanapplyError(
                f"cannot print the path of the TLS key: {key!a} has a control character",
                "Set HOME, or XDG_CACHE_HOME, to a folder without.",
            )
        variables[f"{_COMM}TLS__CA_FILE"] = certificate
        variables[f"{_COMM}TLS__CLIENT__CERT"] = certificate
        variables[f"{_COMM}TLS__CLIENT__KEY"] = key
    return variables


def _reachable_address(endpoint: Endpoint, state: State) -> str:
    """Return the first address that answers here; the first of all if none does."""
    from planapply.dask.scheduler import addresses, probe  # imports asyncio

    known = addresses(endpoint)
    info = probe(endpoint, state.tls) if len(known) > 1 else None
    return known[0] if info is None else info.address
