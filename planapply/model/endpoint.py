"""The addresses of a scheduler, from the record of its VM."""

import re

from planapply.model.node import DEFAULT_PORT, NodeConfig
from planapply.model.state import Endpoint, NodeRecord, State


def scheduler_address(record: NodeRecord, config: NodeConfig, *, public: bool) -> str:
    """Return a Dask address such as `tls://10.0.0.5:8786`; the private one if there is no public one."""
    host = (record.public_address if public else None) or record.private_address
    port = record.port or config.options.get("port") or DEFAULT_PORT
    return f"{'tls' if config.security == 'tls' else 'tcp'}://{host}:{port}"


def build_endpoint(
    record: NodeRecord, config: NodeConfig, dashboard_port: int | None = None
) -> Endpoint:
    """Return the record of the scheduler's addresses; only Dask knows the dashboard's port."""
    host = record.public_address or record.private_address
    return Endpoint(
        private=scheduler_address(record, config, public=False),
        public=scheduler_address(record, config, public=True) if record.public_address else None,
        dashboard=f"http://{host}:{dashboard_port}/status" if dashboard_port else None,
    )


def current_endpoint(state: State) -> Endpoint | None:
    """Return the endpoint by the VM's record, which is newer if an apply was killed between the two writes.

    While the addresses are the same, return the recorded endpoint, which has the dashboard's port; another
    address of the VM keeps the port.
    """
    record, recorded = state.scheduler, state.endpoint
    if record is None:
        return None
    if not record.private_address or record.config not in state.configs:
        return recorded
    current = build_endpoint(record, state.configs[record.config])
    is_unchanged = recorded is not None and (recorded.private, recorded.public) == (
        current.private,
        current.public,
    )
    if is_unchanged or recorded is None or recorded.private != current.private:
        return recorded if is_unchanged else current
    port = re.fullmatch(r"http://.*:([0-9]+)/status", recorded.dashboard or "")
    return build_endpoint(record, state.configs[record.config], int(port[1])) if port else current
