"""EC2's calls: parameters, validation, responses, and pages."""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from xml.etree import ElementTree

Params = dict[str, str]
NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15"
ElementTree.register_namespace("", NAMESPACE)
_METADATA_KEY = re.compile(r"[0-9a-zA-Z\-_+=,.@:]{1,255}")
PAGES = {
    "DescribeInstanceTypes": ("instanceTypeSet", 100),
    "DescribeInstanceTypeOfferings": ("instanceTypeOfferingSet", 1000),
    "DescribeSpotPriceHistory": ("spotPriceHistorySet", 1000),
}


class ApiError(Exception):
    """Refusal of a call by EC2."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        self.code, self.message, self.status = code, message, status
        super().__init__(message)


def numbered_values(params: Mapping[str, str], prefix: str) -> list[str]:
    """Return the values of `prefix.1`, `prefix.2`, …"""
    keys = [key for key in params if re.fullmatch(rf"{prefix}\.\d+", key)]
    return [params[key] for key in sorted(keys, key=lambda key: int(key.rpartition(".")[2]))]


def parse_filters(params: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the values of the call's filters, by name."""
    names = (key for key in params if re.fullmatch(r"Filter\.\d+\.Name", key))
    return {params[key]: numbered_values(params, key.replace("Name", "Value")) for key in names}


def format_response(action: str, inner: str) -> bytes:
    """Return a response of EC2."""
    return f'<{action}Response xmlns="{NAMESPACE}">{inner}</{action}Response>'.encode()


def find_child(parent: ElementTree.Element, name: str) -> ElementTree.Element:
    """Return the only child of that name."""
    child = parent.find(f"{{*}}{name}")
    assert child is not None, name
    return child


def paginate(action: str, params: Params, moto: Callable[..., bytes]) -> bytes:
    """Return one page of a long response."""
    name, page_size = PAGES[action]
    page_size = min(page_size, int(params.get("MaxResults", page_size)))
    start = int(params.get("NextToken", 0))
    root = ElementTree.fromstring(
        moto({k: v for k, v in params.items() if k not in ("NextToken", "MaxResults")})
    )
    items = find_child(root, name)
    rest = len(items) > start + page_size
    items[:] = items[start : start + page_size]
    for old in [child for child in root if child.tag.endswith("nextToken")]:
        root.remove(old)
    if rest:
        ElementTree.SubElement(root, f"{{{NAMESPACE}}}nextToken").text = str(start + page_size)
    return ElementTree.tostring(root)


def check_request(params: Params) -> None:
    """Raise Refused for a RunInstances that EC2 refuses before it checks the token."""
    try:
        raw = base64.b64decode(params.get("UserData", ""), validate=True)
    except binascii.Error:
        raise ApiError(
            "InvalidUserData.Malformed", "Invalid BASE64 encoding of user data."
        ) from None
    if len(raw) > 16384:
        raise ApiError("InvalidParameterValue", "User data is limited to 16384 bytes")
    if not 1 <= int(params["MinCount"]) <= int(params["MaxCount"]):
        raise ApiError("InvalidParameterValue", "MinCount must be from 1 to MaxCount")
    token = params.get("ClientToken", "")
    if len(token) > 64 or not token.isascii():
        raise ApiError("InvalidParameterValue", "Invalid client token: at most 64 ASCII characters")
    spot = params.get("InstanceMarketOptions.MarketType") == "spot"
    if spot and params.get("InstanceInitiatedShutdownBehavior") == "stop":
        text = "A one-time spot request takes no instance initiated shutdown behavior 'stop'."
        raise ApiError("InvalidParameterCombination", text)


def check_tags(params: Params) -> None:
    """Raise Refused for tags that EC2 refuses; also tags that cannot be instance metadata, if required."""
    metadata = params.get("MetadataOptions.InstanceMetadataTags") == "enabled"
    for name, key in params.items():
        if not re.fullmatch(r"(TagSpecification\.\d+\.)?Tag\.\d+\.Key", name):
            continue
        if key.lower().startswith("aws:"):
            raise ApiError("InvalidParameterValue", "Tag keys starting with 'aws:' are reserved")
        if not 1 <= len(key) <= 128 or len(params.get(name.replace("Key", "Value"), "")) > 256:
            text = f"Tag '{key}': a key has at most 128 characters, a value 256"
            raise ApiError("InvalidParameterValue", text)
        is_invalid = not _METADATA_KEY.fullmatch(key) or key in (".", "..", "_index")
        resource_type = params.get(re.sub(r"Tag\.\d+\.Key$", "ResourceType", name))
        if metadata and is_invalid and resource_type == "instance":
            text = f"'{key}' is not a valid tag key. Tag keys must match pattern "
            text += f"({_METADATA_KEY.pattern}), and must not be a reserved name"
            raise ApiError("InvalidParameterValue", text)
    for prefix in {name.partition("Tag.")[0] for name in params if "Tag." in name}:
        if sum(name.startswith(f"{prefix}Tag.") and name.endswith("Key") for name in params) > 50:
            raise ApiError("TagLimitExceeded", "The maximum number of tags is 50.")
