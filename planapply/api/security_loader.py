"""TLS for every Dask client of a cluster, also for those that other programs create."""

import ipaddress
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distributed import Security
from distributed.comm.addressing import parse_address, parse_host_port

from planapply.api.connect import read_state
from planapply.dask.scheduler import addresses, build_security
from planapply.model.diagnostics import PlanapplyError
from planapply.model.endpoint import current_endpoint
from planapply.model.state import State

logger = logging.getLogger("planapply")

STATE_VARIABLE = "PLANAPPLY_STATE"


def security_loader(info: Mapping[str, Any]) -> Security | None:
    """Return the TLS configuration for an address of the cluster's scheduler, else None.

    Name this function in Dask's setting `distributed.client.security-loader`; then every
    `distributed.Client` calls it, unless it gets a `security` of its own. `info["address"]` is the address
    to which the client connects. The cluster is that of the environment variable `PLANAPPLY_STATE` (the path
    or URL of a state, or a spec file), else that of `planapply.toml` in the current folder. Never raise: if
    there is no such cluster, or if its state cannot be read, log why, and return None.
    """
    where = os.environ.get(STATE_VARIABLE)
    try:
        if not where and not Path("planapply.toml").exists():
            return None
        try:
            address = _normalize(info["address"])
        except (KeyError, TypeError, ValueError):  # such as inproc://…, which has no port
            return None
        state = read_state(where or "planapply.toml")
        return _security(state) if address in _scheduler_addresses(state) else None
    except PlanapplyError as error:
        reason = " ".join(error.diagnostics[0].summary.split())  # one line, whatever the path is
        logger.warning("no TLS key for a Dask client: %s", reason)
    except Exception as error:
        # Only the type: the text may quote the state.
        logger.warning("no TLS key for a Dask client: %s", type(error).__name__)
    return None


def _security(state: State) -> Security:
    security = build_security(state.tls)
    security.get_connection_args("client")  # parses the key, so that an invalid one raises here
    return security


def _scheduler_addresses(state: State) -> set[tuple[str, str, int]]:
    """Return the scheduler's addresses, as recorded and by its VM, which is newer after a crash."""
    endpoints = [endpoint for endpoint in (state.endpoint, current_endpoint(state)) if endpoint]
    return {_normalize(address) for endpoint in endpoints for address in addresses(endpoint)}


def _normalize(address: str) -> tuple[str, str, int]:
    """Return scheme, host, and port as Dask reads them, so that equal ones are one address to it."""
    scheme, location = parse_address(address)
    host, port = parse_host_port(location)
    try:
        host = str(ipaddress.ip_address(host))
    except ValueError:
        host = host.lower()
    return scheme, host, port
