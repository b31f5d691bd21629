"""The networks that can reach the nodes of a cluster, from its supporting resources."""

from collections.abc import Iterator, Mapping
from typing import Any

from planapply.model.state import Resource

ME = "me"


def format_access(resources: Mapping[str, Resource]) -> Iterator[str]:
    """Yield the ports that each resource opens and to whom, such as `ports 8786, 8787 from 10.0.0.0/8`."""
    for resource in resources.values():
        ports = open_ports(resource)
        networks = [
            *(_format_network(n, resource.detail) for n in resource.detail.get("allow_from", ())),
            *(f"{network} (`allow`)" for network in resource.detail.get("allowed", ())),
        ]
        if "allow_from" not in resource.detail:
            continue
        if not ports or not networks:
            yield "no network outside the cluster"
            continue
        noun = "port" if len(ports) == 1 else "ports"
        yield f"{noun} {', '.join(map(str, ports))} from {', '.join(networks)}"


def open_ports(resource: Resource) -> list[int]:
    """Return the ports that a resource opens to the networks that it allows."""
    return [*resource.detail.get("ports", ())]


def allowed_networks(resource: Resource) -> list[str]:
    """Return the networks that a resource allows, each once, with this machine's address for `"me"`."""
    detail = resource.detail
    found = [
        (detail.get(ME) or ME) if network == ME else network
        for network in detail.get("allow_from", ())
    ]
    return [*dict.fromkeys([*found, *detail.get("allowed", ())])]


def _format_network(network: str, detail: Mapping[str, Any]) -> str:
    if network != ME:
        return network
    return f"{detail[ME]} (me)" if detail.get(ME) else "this machine"
