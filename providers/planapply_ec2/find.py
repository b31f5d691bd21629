"""Discovery of VMs: one paginated call for any number of them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from planapply.providerkit import TAG_CLUSTER, VM, EndReason
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

# The codes of `StateReason`; a code that is not here says nothing.
_END_REASONS = {
    "Client.InstanceInitiatedShutdown": EndReason.POWERED_OFF,
    "Client.UserInitiatedShutdown": EndReason.TERMINATED,
    "Client.UserInitiatedHibernate": EndReason.TERMINATED,
    "Client.InstanceTerminated": EndReason.TERMINATED,
    "Server.SpotInstanceTermination": EndReason.RECLAIMED,
    "Server.SpotInstanceShutdown": EndReason.RECLAIMED,
    "Server.ScheduledStop": EndReason.RECLAIMED,
    "Server.InternalError": EndReason.FAILED,
    "Server.InsufficientInstanceCapacity": EndReason.FAILED,
    "Client.InternalError": EndReason.FAILED,
    "Client.InvalidSnapshot.NotFound": EndReason.FAILED,
    "Client.VolumeLimitExceeded": EndReason.FAILED,
}


def find(client: Client, tags: Mapping[str, str]) -> list[VM]:
    """Return every VM that has all of `tags` and is not terminated."""
    return _find(client, make_tag_filters(tags))


def lookup(client: Client, ids: Sequence[str]) -> dict[str, VM | None]:
    """Return the VMs with these IDs; None for a terminated one, which EC2 shows for about an hour."""
    found: dict[str, VM | None] = {}
    for instance in _describe_ids(client, ids):
        is_terminated = instance["State"]["Name"] == "terminated"
        found[instance["InstanceId"]] = None if is_terminated else parse_vm(instance)
    return found


def _describe_ids(client: Client, ids: Sequence[str]) -> "Iterator[InstanceTypeDef]":
    for start in range(0, len(ids), MAX_FILTER_VALUES):
        values = list(ids[start : start + MAX_FILTER_VALUES])
        # A filter, because one unknown ID would fail a call by ID.
        yield from _describe(client, [{"Name": "instance-id", "Values": values}])


def end_reasons(client: Client, ids: Sequence[str]) -> dict[str, EndReason]:
    """Return why these VMs have ended, which EC2 shows for about an hour."""
    return {
        instance["InstanceId"]: _END_REASONS.get(
            instance.get("StateReason", {}).get("Code", ""), EndReason.UNKNOWN
        )
        for instance in _describe_ids(client, ids)
    }


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
