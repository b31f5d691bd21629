"""The end of VMs, and the tags of those that live."""

import re
from collections.abc import Mapping, Sequence

from botocore.exceptions import ClientError

from planapply_ec2.client import Client

_ID = re.compile(r"i-[0-9A-Za-z]+")
MOST = 1000
_UNKNOWN = ("InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed")


def terminate(client: Client, ids: Sequence[str]) -> list[str]:
    """End VMs; gives those ids that EC2 does not know.

    One unknown id fails a whole call, so it is asked again without: no sooner than that is any VM
    of it ended.
    """
    left, unknown = list(ids), []
    while left:
        refused = _terminate(client, left)
        unknown += [id for id in left if id in refused]
        if not refused:
            break
        left = [id for id in left if id not in refused]
    return unknown


def _terminate(client: Client, ids: Sequence[str]) -> set[str]:
    """The ids that it was refused for; empty when it was done."""
    with client.asking(writes=True):
        try:
            client.ec2.terminate_instances(InstanceIds=ids)
        except ClientError as error:
            told = error.response.get("Error", {})
            named = _named(told.get("Message", ""), ids)
            if told.get("Code") not in _UNKNOWN or not named:
                raise
            return named
    return set()


def _named(message: str, ids: Sequence[str]) -> set[str]:
    """Which of `ids` the message speaks of: of one word each, for `i-1` is no part of `i-12`."""
    words = set(re.findall(r"[^\s'\",()\[\]]+", message)) | set(_ID.findall(message))
    return words & set(ids)


def retag(
    client: Client, ids: Sequence[str], tags: Mapping[str, str], removed: Sequence[str]
) -> None:
    """Set `tags` on these VMs and take the keys in `removed` off."""
    for start in range(0, len(ids), MOST):
        part = ids[start : start + MOST]
        with client.asking(writes=True):
            if tags:
                pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
                client.ec2.create_tags(Resources=part, Tags=pairs)  # type: ignore[arg-type]
            if removed:
                client.ec2.delete_tags(Resources=part, Tags=[{"Key": key} for key in removed])
