"""Amazon EC2, through boto3."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from planapply.provider import Plugin
from planapply_ec2.settings import Settings

if TYPE_CHECKING:
    from planapply_ec2.provider import EC2


def _connect(settings: Settings) -> "EC2":
    from planapply_ec2.provider import EC2  # imports boto3

    return EC2(settings)


def _starter(settings: Mapping[str, Any]) -> str:
    """With the region that was given, and an environment, since Debian's image has no Dask."""
    region = str(settings.get("region", "eu-west-1"))
    return f"""\
[provider]
region = {json.dumps(region)}
# profile = "research"                # default: AWS_PROFILE, environment, SSO or role
# subnets = ["subnet-..."]            # default: those of the default VPC
# allow_from = ["me"]                 # who may reach the scheduler: networks, "me" is this machine
# public_ip = false                   # for private subnets
# key_name = "laptop"                 # for `planapply ssh`

[environment]                         # what Python runs on the nodes; a change replaces them
packages = "client"                   # as here; or a list: ["dask[distributed]", "pandas"]
# requirements = "requirements.txt"   # in place of packages
# python = "3.12"                     # in which packages or requirements are installed
# docker = "daskdev/dask:latest"      # in place of packages, requirements and python
# env = {{ OMP_NUM_THREADS = "1" }}
# setup = ["apt-get install -y graphviz"]
"""


PLUGIN = Plugin(
    name="ec2",
    summary="Amazon EC2",
    settings=Settings,
    connect=_connect,
    ignored_settings=frozenset({"create"}),
    starter=_starter,
)
