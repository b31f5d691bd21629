"""Termination of VMs, and changes of their tags."""

import re
from collections.abc import Mapping, Sequence

from botocore.exceptions import ClientError

from planapply_ec2.client import Client
from planapply_ec2.errors import VM_NOT_FOUND_CODES, code_of

_ID = re.compile(r"i-[0-9A-Za-z]+")
MAX_RESOURCES = 1000


def terminate(client: Client, ids: Sequence[str]) -> list[str]:
    """Terminate VMs; return the IDs that EC2 does not know.

    One unknown ID fails a whole call, and no VM is terminated, so the call is repeated without it.
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
    """Return the IDs for which EC2 refused the call; none if it succeeded."""
    with client.translate_errors(writes=True):
        try:
            client.ec2.terminate_instances(InstanceIds=ids)
        except ClientError as error:
            # AWS reports the unknown IDs only in the message.
            named_ids = _find_ids(error.response.get("Error", {}).get("Message", ""), ids)
            if code_of(error) not in VM_NOT_FOUND_CODES or not named_ids:
                raise
            return named_ids
    return set()


def _find_ids(message: str, ids: Sequence[str]) -> set[str]:
    """Return the `ids` that are words of the message: `i-1` is not in `i-12`."""
    words = set(re.findall(r"[^\s'\",()\[\]]+", message)) | set(_ID.findall(message))
    return words & set(ids)


def retag(
    client: Client, ids: Sequence[str], tags: Mapping[str, str], removed: Sequence[str]
) -> None:
    """Set `tags` on these VMs, and remove the keys in `removed`."""
    for start in range(0, len(ids), MAX_RESOURCES):
        batch = ids[start : start + MAX_RESOURCES]
        with client.translate_errors(writes=True):
            if tags:
                pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
                client.ec2.create_tags(Resources=batch, Tags=pairs)  # type: ignore[arg-type]
            if removed:
                client.ec2.delete_tags(Resources=batch, Tags=[{"Key": key} for key in removed])
