"""env: what a bare `distributed.Client()` must find in its environment to connect."""

import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from planapply.model.diagnostics import PlanapplyError
from planapply.model.state import State
from planapply.store import tlsfiles

CONNECT_TIMEOUT = 1.5  # seconds for one try to reach an address
_COMM = "DASK_DISTRIBUTED__COMM__"


def client_environment(state: State) -> dict[str, str]:
    """Dask's settings as environment variables; the TLS key goes into files of mode 0600.

    Raises PlanapplyError where there is no scheduler, and where the files can't be written.
    """
    endpoint = state.endpoint
    if endpoint is None:
        raise PlanapplyError(
            f"cluster {state.cluster!r} has no scheduler", "`planapply apply` makes one."
        )
    addresses = [address for address in (endpoint.public, endpoint.private) if address]
    # Settings of a cluster that this shell was told of before must not stay behind.
    variables = {
        "DASK_SCHEDULER_ADDRESS": _first_reachable(addresses),
        f"{_COMM}REQUIRE_ENCRYPTION": str(state.tls is not None),
    }
    if state.tls is not None:
        certificate, key = tlsfiles.write(state.lineage, state.tls)
        variables[f"{_COMM}TLS__CA_FILE"] = certificate
        variables[f"{_COMM}TLS__CLIENT__CERT"] = certificate
        variables[f"{_COMM}TLS__CLIENT__KEY"] = key
    return variables


def _first_reachable(addresses: Sequence[str]) -> str:
    """The first address that can be reached from here; the first of all where none can."""
    if len(addresses) > 1:
        for address in addresses:
            parts = urlsplit(address)
            try:
                socket.create_connection((parts.hostname, parts.port or 0), CONNECT_TIMEOUT).close()
            except OSError:
                continue
            return address
    return addresses[0]
