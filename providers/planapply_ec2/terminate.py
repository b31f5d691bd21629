"""The end of VMs, and the tags of those that live."""

import re
from collections.abc import Mapping, Sequence

from botocore.exceptions import ClientError

from planapply_ec2.client import Client

_ID = re.compile(r"i-[0-9A-Za-z]+")
MAX_RESOURCES = 1000
_NOT_FOUND_CODES = ("InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed")


def terminate(client: Client, ids: Sequence[str]) -> list[str]:
    """End VMs; gives those ids that EC2 does not know.

    One unknown id fails a whole call, so it is asked again without: no sooner than that is any VM
    of it ended.
    """
    remaining, unknown = list(ids), []
    while remaining:
        refused = _try_terminate(client, remaining)
        unknown += [id for id in remaining if id in refused]
        if not refused:
            break
        remaining = [id for id in remaining if id not in refused]
    return unknown


def _try_terminate(client: Client, ids: Sequence[str]) -> set[str]:
    """The ids that it was refused for; empty when it was done."""
    with client.translate_errors(writes=True):
        try:
            client.ec2.terminate_instances(InstanceIds=ids)
        except ClientError as error:
            aws_error = error.response.get("Error", {})
            named_ids = _find_ids(aws_error.get("Message", ""), ids)
            if aws_error.get("Code") not in _NOT_FOUND_CODES or not named_ids:
                raise
            return named_ids
    return set()


def _find_ids(message: str, ids: Sequence[str]) -> set[str]:
    """Which of `ids` the message speaks of: of one word each, for `i-1` is no part of `i-12`."""
    words = set(re.findall(r"[^\s'\",()\[\]]+", message)) | set(_ID.findall(message))
    return words & set(ids)


def retag(
    client: Client, ids: Sequence[str], tags: Mapping[str, str], removed: Sequence[str]
) -> None:
    """Set `tags` on these VMs and take the keys in `removed` off."""
    for start in range(0, len(ids), MAX_RESOURCES):
        batch = ids[start : start + MAX_RESOURCES]
        with client.translate_errors(writes=True):
            if tags:
                pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
                client.ec2.create_tags(Resources=batch, Tags=pairs)  # type: ignore[arg-type]
            if removed:
                client.ec2.delete_tags(Resources=batch, Tags=[{"Key": key} for key in removed])
