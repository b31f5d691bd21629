"""Discovery of VMs: one paginated call for any number of them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from planapply.providerkit import TAG_CLUSTER, VM
from planapply_ec2.client import Client

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef, InstanceTypeDef, TagTypeDef

PAGE = 1000
MAX_FILTER_VALUES = 200
_STATUS: dict[str, Literal["pending", "running", "stopping"]] = {
    "pending": "pending",
    "running": "running",
    # planapply never stops a VM; a VM that a user has stopped does no work, and is replaced.
    "shutting-down": "stopping",
    "stopping": "stopping",
    "stopped": "stopping",
}


def find(client: Client, tags: Mapping[str, str]) -> list[VM]:
    """Return every VM that has all of `tags` and is not terminated."""
    return _find(client, make_tag_filters(tags))


def lookup(client: Client, ids: Sequence[str]) -> dict[str, VM | None]:
    """Return the VMs with these IDs; None for a terminated one, which EC2 shows for about an hour."""
    found: dict[str, VM | None] = {}
    for start in range(0, len(ids), MAX_FILTER_VALUES):
        values = list(ids[start : start + MAX_FILTER_VALUES])
        # A filter, because one unknown ID would fail a call by ID.
        for instance in _describe(client, [{"Name": "instance-id", "Values": values}]):
            is_terminated = instance["State"]["Name"] == "terminated"
            found[instance["InstanceId"]] = None if is_terminated else parse_vm(instance)
    return found


def list_vms(client: Client) -> list[VM]:
    """Return every VM of planapply in this account and region."""
    return _find(client, [{"Name": "tag-key", "Values": [TAG_CLUSTER]}])


def _find(client: Client, filters: "Sequence[FilterTypeDef]") -> list[VM]:
    states: FilterTypeDef = {"Name": "instance-state-name", "Values": list(_STATUS)}
    return [parse_vm(instance) for instance in _describe(client, [states, *filters])]


def _describe(client: Client, filters: "Sequence[FilterTypeDef]") -> "list[InstanceTypeDef]":
    with client.translate_errors():
        pages = client.ec2.get_paginator("describe_instances").paginate(
            Filters=filters, PaginationConfig={"PageSize": PAGE}
        )
        return [
            instance
            for page in pages
            for reservation in page["Reservations"]
            for instance in reservation["Instances"]
        ]


def make_tag_filters(tags: Mapping[str, str]) -> "list[FilterTypeDef]":
    """Return filters for a Describe call."""
    return [{"Name": f"tag:{key}", "Values": [value]} for key, value in tags.items()]


def parse_tags(tags: "Sequence[TagTypeDef]") -> dict[str, str]:
    """Return the tags in AWS's list."""
    return {tag["Key"]: tag["Value"] for tag in tags}


def _parse_groups(instance: "InstanceTypeDef") -> tuple[str, ...] | None:
    """Return the groups of a VM; None for one that does not run, which may have none any more."""
    if instance["State"]["Name"] != "running":
        return None
    return tuple(sorted(group["GroupId"] for group in instance.get("SecurityGroups", [])))


def parse_vm(instance: "InstanceTypeDef") -> VM:
    """Return the VM in a response of RunInstances or DescribeInstances."""
    return VM(
        id=instance["InstanceId"],
        status=_STATUS[instance["State"]["Name"]],
        tags=parse_tags(instance.get("Tags", [])),
        index=instance["AmiLaunchIndex"],
        private_address=instance.get("PrivateIpAddress"),
        public_address=instance.get("PublicIpAddress"),
        size=instance["InstanceType"],
        zone=instance["Placement"]["AvailabilityZone"],
        image=instance["ImageId"],
        token=instance.get("ClientToken", ""),
        spot=instance.get("InstanceLifecycle") == "spot",
        groups=_parse_groups(instance),
        launched_at=instance["LaunchTime"].timestamp(),
    )
