"""The `[provider]` table of a spec whose provider is `ec2`."""

import ipaddress
from typing import Annotated

from pydantic import AfterValidator

from planapply.model.base import Model
from planapply.model.field_types import Text, TextList, spec_key

ME = "me"


def parse_network(text: str) -> str:
    """`text` as a network in the form that EC2 keeps; raises ValueError in two lines."""
    try:
        return str(ipaddress.ip_network(text.strip()))
    except ValueError:
        raise ValueError(
            f"`{text}` is no network\n"
            'Write an address, a network such as "203.0.113.0/24", or "me" for this machine.'
        ) from None


def _parse_networks(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(value if value == ME else parse_network(value) for value in values)


class Settings(Model):
    """Where the VMs are, and who may reach them. Credentials come from AWS's usual places:
    environment, profile, SSO, role."""

    region: Annotated[Text | None, spec_key("refusal", "eu-west-1")] = None
    """The AWS region. Default: that of the profile or of `AWS_REGION`. It can't change while the
    cluster exists."""
    profile: Annotated[Text | None, spec_key("nothing", "research")] = None
    """The profile in your AWS configuration. Default: `AWS_PROFILE`, or the default one."""
    vpc: Annotated[Text | None, spec_key("refusal", "vpc-0123456789abcdef0")] = None
    """The network that the VMs are in. Default: that of `subnets`, or the region's default VPC.
    It can't change while the cluster exists."""
    subnets: Annotated[TextList, spec_key("nothing", ["subnet-0123456789abcdef0"])] = ()
    """One for each zone that VMs may be in. Default: one in each zone of the VPC. A change is for
    VMs launched from then on."""
    security_groups: Annotated[TextList, spec_key("replacement", ["sg-0123456789abcdef0"])] = ()
    """Ids of security groups that let the VMs reach each other, and you the scheduler. Default: one
    is made for the cluster and removed with it."""
    allow_from: Annotated[
        TextList, AfterValidator(_parse_networks), spec_key("update", ["me", "203.0.113.0/24"])
    ] = (ME,)
    """Who may reach the scheduler and its dashboard: networks, or `"me"`, which is this machine's
    public address when the cluster is made and is kept then. Default: `["me"]`. It is about the
    security group made for the cluster, and so means nothing with `security_groups`."""
    public_ip: Annotated[bool, spec_key("replacement", False)] = True
    """Whether VMs get public addresses; without them a private subnet needs a way out (NAT, or
    a package mirror inside). Default: `true`."""
    key_name: Annotated[Text | None, spec_key("replacement", "laptop")] = None
    """The key pair that `planapply ssh` logs in with; the scheduler's security group then lets
    `allow_from` reach port 22, too. Default: none."""
    instance_profile: Annotated[Text | None, spec_key("replacement", "dask-nodes")] = None
    """Name or ARN of the instance profile whose role the nodes have. Default: none."""
