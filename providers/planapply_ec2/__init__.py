"""Provider for Amazon EC2, based on boto3."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from planapply.provider import Plugin
from planapply.providerkit import STARTER_ENVIRONMENT
from planapply_ec2.settings import Settings

if TYPE_CHECKING:
    from planapply_ec2.provider import EC2


def _connect(settings: Settings) -> "EC2":
    from planapply_ec2.provider import EC2  # imports boto3

    return EC2(settings)


def _starter(settings: Mapping[str, Any]) -> str:
    """Return a starter with the region in `settings`, and an environment: Debian's image has no Dask."""
    region = str(settings.get("region", "eu-west-1"))
    return f"""\
[provider]
region = {json.dumps(region)}
# profile = "research"                # default: AWS_PROFILE, environment, SSO or role
# subnets = ["subnet-..."]            # default: the subnets of the default VPC
# allow_from = ["me"]                 # networks that may reach the scheduler; "me" is this machine
# public_ip = false                   # for private subnets
# key_name = "laptop"                 # for `planapply ssh`

{STARTER_ENVIRONMENT}"""


PLUGIN = Plugin(
    name="ec2",
    summary="Amazon EC2",
    settings=Settings,
    connect=_connect,
    ignored_settings=frozenset({"create"}),
    starter=_starter,
)
