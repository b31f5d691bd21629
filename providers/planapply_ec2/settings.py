"""The `[provider]` table of a spec whose provider is `ec2`."""

from typing import Annotated

from pydantic import AfterValidator, Field

from planapply.providerkit import ME, Model, Text, TextList, parse_network, spec_key


def _parse_networks(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(parse_network(value, allows_me=True) for value in values)


class Settings(Model):
    """Location and network access of the VMs. Credentials come from the usual AWS sources:
    environment, profile, SSO, role."""

    region: Annotated[Text | None, spec_key("refusal", "eu-west-1")] = None
    """AWS region. Default: `AWS_REGION`, else `AWS_DEFAULT_REGION`, else the profile's region. It cannot
    change while the cluster exists."""
    profile: Annotated[Text | None, spec_key("nothing", "research")] = None
    """Profile in your AWS configuration, also for a state in S3. Default: `AWS_PROFILE`, or the default
    profile."""
    vpc: Annotated[Text | None, spec_key("refusal", "vpc-0123456789abcdef0")] = None
    """VPC of the VMs. Default: the VPC of `subnets`, or the region's default VPC. It cannot change while
    the cluster exists."""
    subnets: Annotated[TextList, spec_key("nothing", ["subnet-0123456789abcdef0"])] = ()
    """Subnets, one for each zone that VMs may run in. Default: one in each zone of the VPC. A change
    affects only VMs launched after it."""
    security_groups: Annotated[TextList, spec_key("replacement", ["sg-0123456789abcdef0"])] = ()
    """IDs of security groups that allow the VMs to reach each other, and you to reach the scheduler.
    Default: planapply creates one for the cluster, and removes it with the cluster."""
    allow_from: Annotated[
        TextList, AfterValidator(_parse_networks), spec_key("update", ["me", "203.0.113.0/24"])
    ] = (ME,)
    """Networks that may reach the scheduler and its dashboard. `"me"` is the public address of this
    machine at the time when the cluster is created; the address is then kept. Default: `["me"]`. This
    key configures the security group that planapply creates, so it has no effect with
    `security_groups`."""
    public_ip: Annotated[bool, spec_key("replacement", False)] = True
    """Whether VMs get public addresses. Without them, a private subnet needs a NAT gateway or an
    internal package mirror. Default: `true`."""
    key_name: Annotated[Text | None, spec_key("replacement", "laptop")] = None
    """Key pair for `planapply ssh`. The scheduler's security group then also allows `allow_from` to
    reach port 22. Default: none."""
    instance_profile: Annotated[Text | None, spec_key("replacement", "dask-nodes")] = None
    """Name or ARN of the instance profile whose role the nodes assume. Default: none."""
    price: Annotated[
        dict[Text, Annotated[float, Field(gt=0, lt=1e6)]], spec_key("nothing", {"x9.huge": 1.25})
    ] = {}
    """Prices of sizes in USD/h, for `max_cost` and for the cost in plans. Use it for a size whose price
    planapply does not know, or to replace the public on-demand price. It is also the price of spot VMs
    if the cloud reports none. Default: the public prices, as far as they are known."""
