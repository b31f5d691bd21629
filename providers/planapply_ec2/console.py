"""Console output and user data of a VM."""

import base64
import gzip
import zlib

from botocore.exceptions import ClientError

from planapply.providerkit import last_lines
from planapply_ec2.client import Client
from planapply_ec2.errors import VM_NOT_FOUND_CODES, code_of


def console(client: Client, id: str, lines: int) -> str:
    """Return the last lines of the console output.

    EC2 keeps 64 KB, until about an hour after the VM was terminated.
    """
    text = _read_output(client, id, latest=True) or _read_output(client, id, latest=False)
    return last_lines(text, lines)


def _read_output(client: Client, id: str, *, latest: bool) -> str:
    with client.translate_errors():
        try:
            answer = client.ec2.get_console_output(InstanceId=id, Latest=latest)
            return answer.get("Output", "").replace("\r\n", "\n")
        except ClientError as error:
            # Only running VMs of newer types support `Latest`.
            if latest or code_of(error) in VM_NOT_FOUND_CODES:
                return ""
            raise


def secrets(client: Client, id: str) -> str:
    """Return the VM's user data, which has the cluster's key; empty if it has no user data."""
    with client.translate_errors():
        try:
            answer = client.ec2.describe_instance_attribute(InstanceId=id, Attribute="userData")
        except ClientError as error:
            if code_of(error) in VM_NOT_FOUND_CODES:
                return ""
            raise
    data = base64.b64decode(answer.get("UserData", {}).get("Value", ""))
    try:
        return gzip.decompress(data).decode(errors="replace")
    except (OSError, EOFError, zlib.error):
        return data.decode(errors="replace")
