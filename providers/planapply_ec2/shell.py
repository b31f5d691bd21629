"""Command that logs in to a VM: with its key pair, or through EC2 Instance Connect."""

import re
import shutil
import subprocess
from collections.abc import Sequence

from planapply.provider import ProviderError
from planapply.providerkit import NodeConfig, NodeRecord, rejection
from planapply_ec2 import image
from planapply_ec2.client import Client

USER_BY_IMAGE_NAME = {"debian": "admin", "ubuntu": "ubuntu"}
"""Login users by a word of the image's name; of Amazon's own images it is `ec2-user`."""
_ADVICE = (
    "Install AWS CLI 2, which logs in through EC2 Instance Connect if the image supports it; or set "
    "`key_name` under [provider], which replaces the nodes."
)


def shell(
    client: Client, profile: str | None, record: NodeRecord, config: NodeConfig, user: str | None
) -> Sequence[str]:
    """Return an `ssh` command if the VM has a key pair, else an `aws` command, if it is installed.

    Raise a rejected ProviderError if neither is possible.
    """
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
    raise rejection(
        "cannot log in: the VM has no key pair, and the `aws` command is not installed", _ADVICE
    )


def _check_version(aws: str) -> None:
    """Raise a rejected ProviderError for AWS CLI 1, which has no Instance Connect command."""
    result = subprocess.run([aws, "--version"], capture_output=True, text=True, check=False)
    # Such as "aws-cli/2.15.30 Python/3.11.8 …"; on stderr with an old Python.
    version = re.search(r"aws-cli/(\S+)", result.stdout + result.stderr)
    if version and version[1].startswith("1."):
        raise rejection(
            f"cannot log in: the VM has no key pair, and `{aws}` is version {version[1]}", _ADVICE
        )


def _find_default_user(client: Client, config: NodeConfig) -> str:
    try:
        name = image.describe(client, config.image or "").name.lower()
    except ProviderError:
        name = ""  # the image was deleted
    return next((user for word, user in USER_BY_IMAGE_NAME.items() if word in name), "ec2-user")
