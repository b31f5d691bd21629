"""What a VM printed, and what it was told at its boot."""

import base64
import gzip
import zlib

from botocore.exceptions import ClientError

from planapply_ec2.client import Client

_NOT_FOUND_CODES = ("InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed")


def console(client: Client, id: str, lines: int) -> str:
    """The last lines of its console; EC2 keeps 64 KB, for about an hour after its end."""
    text = _read_output(client, id, latest=True)
    if not text:
        text = _read_output(client, id, latest=False)
    all_lines = text.splitlines(keepends=True)
    return "".join(all_lines[-lines:]) if lines else ""


def _read_output(client: Client, id: str, *, latest: bool) -> str:
    with client.translate_errors():
        try:
            answer = client.ec2.get_console_output(InstanceId=id, Latest=latest)
            return answer.get("Output", "").replace("\r\n", "\n")
        except ClientError as error:
            # `Latest` is for running VMs of newer kinds only.
            if latest or error.response.get("Error", {}).get("Code") in _NOT_FOUND_CODES:
                return ""
            raise


def secrets(client: Client, id: str) -> str:
    """The VM's user data, in which the cluster's key stands; empty where there is none."""
    with client.translate_errors():
        try:
            answer = client.ec2.describe_instance_attribute(InstanceId=id, Attribute="userData")
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in _NOT_FOUND_CODES:
                return ""
            raise
    data = base64.b64decode(answer.get("UserData", {}).get("Value", ""))
    try:
        return gzip.decompress(data).decode(errors="replace")
    except (OSError, EOFError, zlib.error):
        return data.decode(errors="replace")
