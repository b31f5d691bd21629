"""How to log in to a VM: by its key pair, or by EC2 Instance Connect."""

import re
import shutil
import subprocess
from collections.abc import Sequence

from planapply.model.node import NodeConfig
from planapply.model.state import NodeRecord
from planapply.provider import ErrorKind, ProviderError
from planapply_ec2 import image
from planapply_ec2.client import Client

USER_BY_IMAGE_NAME = {"debian": "admin", "ubuntu": "ubuntu"}
"""Whom images let log in, by what their names hold; Amazon's own: `ec2-user`."""


def shell(
    client: Client, profile: str | None, record: NodeRecord, config: NodeConfig, user: str | None
) -> Sequence[str]:
    """`ssh` where there is a key pair, else the `aws` command, if it is installed."""
    login_user = user or _find_default_user(client, config)
    address = record.public_address or record.private_address
    if config.provider.get("key_name") and address:
        return ["ssh", f"{login_user}@{address}"]
    if aws := shutil.which("aws"):
        _check_version(aws)
        profile_arguments = ["--profile", profile] if profile else []
        return [
            *("aws", "ec2-instance-connect", "ssh", "--instance-id", record.vm),
            *("--os-user", login_user, "--region", client.region, *profile_arguments),
        ]
    raise ProviderError(
        ErrorKind.REJECTED,
        "the VM was made without a key pair, and the `aws` command is not installed",
        "Set `key_name` under [provider], which replaces the nodes, or install AWS CLI 2, "
        "which logs in through EC2 Instance Connect where the image has that.",
    )


def _check_version(aws: str) -> None:
    """Version 1, which has no such command, would answer with pages on its usage."""
    result = subprocess.run([aws, "--version"], capture_output=True, text=True, check=False)
    # Such as "aws-cli/2.15.30 Python/3.11.8 …"; on stderr with an old Python.
    version = re.search(r"aws-cli/(\S+)", result.stdout + result.stderr)
    if version and version[1].startswith("1."):
        raise ProviderError(
            ErrorKind.REJECTED,
            f"the VM was made without a key pair, which needs AWS CLI 2, and `{aws}` is "
            f"{version[1]}",
            "Install AWS CLI 2, which logs in through EC2 Instance Connect where the image has "
            "that, or set `key_name` under [provider], which replaces the nodes.",
        )


def _find_default_user(client: Client, config: NodeConfig) -> str:
    try:
        name = image.describe(client, config.image or "").name.lower()
    except ProviderError:
        name = ""  # it is gone since
    return next((user for word, user in USER_BY_IMAGE_NAME.items() if word in name), "ec2-user")
