"""How to log in to a VM: by its key pair, or by EC2 Instance Connect."""

import shutil
from collections.abc import Sequence

from planapply.model.node import NodeConfig
from planapply.model.state import NodeRecord
from planapply.provider import ErrorKind, ProviderError
from planapply_ec2 import image
from planapply_ec2.client import Client

USERS = {"debian": "admin", "ubuntu": "ubuntu"}
"""Whom images let log in, by what their names hold; Amazon's own: `ec2-user`."""


def shell(
    client: Client, profile: str | None, record: NodeRecord, config: NodeConfig, user: str | None
) -> Sequence[str]:
    """`ssh` where there is a key pair, else the `aws` command, if it is installed."""
    who = user or _user(client, config)
    address = record.public_address or record.private_address
    if config.provider.get("key_name") and address:
        return ["ssh", f"{who}@{address}"]
    if shutil.which("aws"):
        more = ["--profile", profile] if profile else []
        return [
            *("aws", "ec2-instance-connect", "ssh", "--instance-id", record.vm),
            *("--os-user", who, "--region", client.region, *more),
        ]
    raise ProviderError(
        ErrorKind.REJECTED,
        "the VM was made without a key pair, and the `aws` command is not installed",
        "Set `key_name` under [provider], which replaces the nodes, or install AWS's command line, "
        "which logs in through EC2 Instance Connect where the image has that.",
    )


def _user(client: Client, config: NodeConfig) -> str:
    try:
        name = image.known(client, config.image or "").name.lower()
    except ProviderError:
        name = ""  # it is gone since
    return next((user for word, user in USERS.items() if word in name), "ec2-user")
