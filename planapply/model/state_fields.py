"""The types of the state's fields, which are read from a file that another user may have changed."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from planapply.model.names import is_node_name

# Whatever a cloud calls a host passes; what would make another address, or another line of output, does not.
_HOST = r"[A-Za-z0-9._~%:\[\]-]{1,253}"
_HOST_ONLY = re.compile(_HOST)
_ADDRESS = re.compile(rf"(?:tcp|tls)://{_HOST}:(?P<port>[0-9]{{1,5}})")
_DASHBOARD = re.compile(rf"https?://{_HOST}:(?P<port>[0-9]{{1,5}})(?:/[\w./-]*)?", re.ASCII)


def _check_printable(text: str) -> str:
    # In a table or a message, a line break would make a line that looks like planapply's own.
    if not text.isprintable():
        raise PydanticCustomError("text", "must contain no control characters")
    return text


def _check_text(text: str) -> str:
    if not text:
        raise PydanticCustomError("text", "must be non-empty")
    return _check_printable(text)


def _check_node_name(name: str) -> str:
    if not is_node_name(name):
        raise PydanticCustomError("node_name", "is not the name of a node")
    return name


def _check_host(host: str) -> str:
    if not _HOST_ONLY.fullmatch(host):
        raise PydanticCustomError("host", "must be an IP address or a host name")
    return host


def _check_url(url: str, pattern: re.Pattern[str], example: str) -> str:
    match = pattern.fullmatch(url)
    if match is None or not 1 <= int(match["port"]) <= 65535:
        raise PydanticCustomError("url", f"must be an address such as {example}")
    return url


def _check_address(address: str) -> str:
    return _check_url(address, _ADDRESS, "tls://10.0.0.5:8786")


def _check_dashboard(url: str) -> str:
    return _check_url(url, _DASHBOARD, "http://10.0.0.5:8787/status")


def _check_tables(spec: dict[str, Any]) -> dict[str, Any]:
    workers = spec.get("workers")
    groups = workers.values() if isinstance(workers, dict) else ()
    if not all(isinstance(table, dict) for table in (*spec.values(), *groups)):
        raise PydanticCustomError("tables", "must have tables only")
    return spec


def _check_detail(detail: dict[str, Any]) -> dict[str, Any]:
    ports = detail.get("ports", ())
    if not (_is_list(ports) and all(type(port) is int for port in ports)):
        raise PydanticCustomError("ports", "must have a list of numbers as `ports`")
    texts = [detail.get(key, ()) for key in ("allow_from", "allowed")]
    if not all(_is_list(text) and all(map(_is_plain, text)) for text in texts):
        raise PydanticCustomError("networks", "must have lists of networks")
    if not (detail.get("me") is None or _is_plain(detail["me"])):
        raise PydanticCustomError("networks", "must have a network as `me`")
    return detail


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


def _is_plain(value: object) -> bool:
    return isinstance(value, str) and value.isprintable()


PlainText = Annotated[str, AfterValidator(_check_printable)]
NonEmptyText = Annotated[str, AfterValidator(_check_text)]
NodeName = Annotated[str, AfterValidator(_check_node_name)]
Host = Annotated[str, AfterValidator(_check_host)]
Port = Annotated[int, Field(ge=1, le=65535)]
DaskAddress = Annotated[str, AfterValidator(_check_address)]
DashboardURL = Annotated[str, AfterValidator(_check_dashboard)]
SpecTables = Annotated[dict[str, Any], AfterValidator(_check_tables)]
"""A spec as JSON, in which every key of the file is a table."""
ResourceDetail = Annotated[dict[str, Any], AfterValidator(_check_detail)]
"""The record of a provider, with the ports and networks that planapply shows."""
Timestamp = Annotated[float, Field(ge=0, lt=2.5e11)]
"""Seconds since the epoch, within the range of dates."""
