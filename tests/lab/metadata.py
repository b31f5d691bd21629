"""Instance metadata at 169.254.169.254, as EC2 documents it."""

import base64
import json
import secrets
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from lab.ec2 import EC2
from lab.stock import ENDED

Environ = dict[str, Any]
Tree = dict[str, Any]


class Metadata:
    """WSGI app that identifies a VM by the address of its request."""

    def __init__(self, ec2: EC2) -> None:
        self._ec2 = ec2
        self._tokens: set[str] = set()

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Handle a WSGI request."""
        status, body = self._answer(environ)
        kind = "text/plain"
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body]

    def _answer(self, environ: Environ) -> tuple[str, bytes]:
        address, path = environ["REMOTE_ADDR"], environ["PATH_INFO"].strip("/").split("/")
        callers = [vm for vm in self._ec2.instances() if vm.private_ip == address]
        alive = [vm for vm in callers if vm.state not in ENDED]
        if not alive:
            return "404 Not Found", b""
        if environ["REQUEST_METHOD"] == "PUT" and path[1:] == ["api", "token"]:
            if not environ.get("HTTP_X_AWS_EC2_METADATA_TOKEN_TTL_SECONDS", "").isdigit():
                return "400 Bad Request", b""
            token = secrets.token_urlsafe()
            self._tokens.add(token)
            return "200 OK", token.encode()
        if not self._is_authorized(environ, alive[0]):
            return "401 Unauthorized", b""
        entry: Any = metadata_tree(self._ec2, alive[0])
        for name in path[1:]:
            entry = entry.get(name) if isinstance(entry, dict) else None
        if entry is None:
            return "404 Not Found", b""
        if isinstance(entry, dict):
            lines = (
                f"{n}/" if isinstance(v, dict) else n for n, v in entry.items() if v is not None
            )
            entry = "\n".join(lines)
        return "200 OK", entry if isinstance(entry, bytes) else str(entry).encode()

    def _is_authorized(self, environ: Environ, vm: Any) -> bool:
        # cloud-init uses a token only if the BIOS says EC2, and these machines have no BIOS.
        exempt = environ.get("HTTP_USER_AGENT", "").startswith(("Cloud-Init/", "python-requests/"))
        if exempt or vm.metadata_options.http_tokens != "required":
            return True
        return environ.get("HTTP_X_AWS_EC2_METADATA_TOKEN") in self._tokens


def metadata_tree(ec2: EC2, vm: Any) -> Tree:
    """Return all metadata, with folders as dicts; None if it does not exist."""
    network = vm.nics[0]
    tags = {tag["key"]: tag["value"] for tag in vm.get_tags()}
    shown = vm.metadata_options.instance_metadata_tags == "enabled"
    zone, host = vm.placement.zone, vm.private_dns_name
    mac = network.mac_address
    reclaim_time, action = ec2.reclaim_times.get(vm.id), None
    if reclaim_time is not None:
        at = datetime.now(UTC) + timedelta(seconds=reclaim_time - ec2.clock())
        action = {"action": "terminate", "time": at.strftime("%Y-%m-%dT%H:%M:%SZ")}
    rebalance = ec2.rebalanced.get(vm.id)
    recommendations = {"rebalance": json.dumps({"noticeTime": rebalance})}
    identity = {
        "accountId": vm.owner_id,
        "architecture": vm.architecture,
        "availabilityZone": zone,
        "imageId": vm.image_id,
        "instanceId": vm.id,
        "instanceType": vm.instance_type,
        "pendingTime": vm.launch_time.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "privateIp": vm.private_ip,
        "region": zone[:-1],
        "version": "2017-09-30",
    }
    return {
        "meta-data": {
            "ami-id": vm.image_id,
            "ami-launch-index": str(vm.ami_launch_index),
            "events": {"recommendations": recommendations} if rebalance else None,
            "hostname": host,
            "instance-action": "none",
            "instance-id": vm.id,
            "instance-life-cycle": vm.lifecycle or "on-demand",
            "instance-type": vm.instance_type,
            "local-hostname": host,
            "local-ipv4": vm.private_ip,
            "mac": mac,
            "network": {
                "interfaces": {"macs": {mac: {"device-number": "0", "local-ipv4s": vm.private_ip}}}
            },
            "placement": {"availability-zone": zone, "region": zone[:-1]},
            "public-hostname": vm.public_dns_name,
            "public-ipv4": vm.public_ip,
            "security-groups": "\n".join(group.name for group in vm.security_groups),
            "services": {"domain": "amazonaws.com", "partition": "aws"},
            "spot": {"instance-action": json.dumps(action)} if action else None,
            "tags": {"instance": tags} if shown and tags else None,
        },
        "dynamic": {"instance-identity": {"document": json.dumps(identity)}},
        "user-data": base64.b64decode(str(vm.user_data)) if vm.user_data else None,
    }
