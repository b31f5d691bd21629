"""Amazon EC2, through boto3."""

from typing import TYPE_CHECKING

from planapply.provider import Plugin
from planapply_ec2.settings import Settings

if TYPE_CHECKING:
    from planapply_ec2.provider import EC2


def _connect(settings: Settings) -> "EC2":
    from planapply_ec2.provider import EC2  # imports boto3

    return EC2(settings)


PLUGIN = Plugin(
    name="ec2",
    summary="Amazon EC2",
    settings=Settings,
    connect=_connect,
    ignores=frozenset({"create"}),
    starter="""\
[provider]
region = "eu-west-1"
# profile = "research"        # default: AWS_PROFILE, environment, SSO or role
# subnets = ["subnet-..."]    # default: those of the default VPC
# allow_from = ["me"]         # who may reach the scheduler: networks, "me" is this machine
# public_ip = false           # for private subnets
# key_name = "laptop"         # for `planapply ssh`
""",
)
