"""Parts that provider plug-ins share; with `planapply.provider`, all that a plug-in imports.

The names of the model that a plug-in needs are exported here, too. Importing this module imports no
cloud SDK.
"""

import importlib.util
import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_interface, ip_network
from pathlib import Path
from typing import Any, TypeVar

from planapply.credentials import (
    aws_region,
    aws_session_variables,
    describe_malformed,
    find_malformed_variables,
    has_control_character,
    is_malformed_aws_credential,
)
from planapply.model.base import Model
from planapply.model.diagnostics import Diagnostic, PlanapplyError, warning
from planapply.model.end_reason import EndReason
from planapply.model.field_types import Text, TextList, spec_key
from planapply.model.names import SCHEDULER, split_name
from planapply.model.node import (
    DEFAULT_DASHBOARD_PORT,
    DEFAULT_PORT,
    TAG_BATCH,
    TAG_CLUSTER,
    TAG_CONFIG,
    TAG_GROUP,
    TAG_LINEAGE,
    TAG_NAMES,
    TAG_PREFIX,
    TAG_STATE,
    VM,
    NodeConfig,
    Requirements,
    is_own_tag,
)
from planapply.model.paths import expand_home, find_user_folder, home_problem
from planapply.model.plan import FieldChange, ResourceDrift
from planapply.model.secrets import environment_secrets, mask_values
from planapply.model.state import Choice, NodeRecord, Resource
from planapply.model.variables import expand_self_references
from planapply.provider import ErrorKind, LaunchRequest, Price, ProviderError

__all__ = [  # the model's names that plug-ins import from here
    "SCHEDULER",
    "TAG_BATCH",
    "TAG_CLUSTER",
    "TAG_CONFIG",
    "TAG_GROUP",
    "TAG_LINEAGE",
    "TAG_NAMES",
    "TAG_PREFIX",
    "TAG_STATE",
    "VM",
    "Choice",
    "Diagnostic",
    "EndReason",
    "FieldChange",
    "Model",
    "NodeConfig",
    "NodeRecord",
    "PlanapplyError",
    "Requirements",
    "Resource",
    "ResourceDrift",
    "Text",
    "TextList",
    "aws_region",
    "aws_session_variables",
    "describe_malformed",
    "environment_secrets",
    "expand_home",
    "expand_self_references",
    "find_malformed_variables",
    "find_user_folder",
    "has_control_character",
    "home_problem",
    "is_malformed_aws_credential",
    "is_own_tag",
    "mask_values",
    "spec_key",
    "split_name",
    "warning",
]

T = TypeVar("T")
GIB = 1 << 30
ME = "me"
"""The public address of the machine that runs planapply, in `allow_from`."""
WIDE_NETWORK_SIZE = 1 << 24
"""Number of addresses from which on a network is a large part of the internet."""
Network = IPv4Network | IPv6Network
_PRIVATE = [
    ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
]
_RESERVED = [
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "240.0.0.0/4"),
        *("::ffff:0:0/96", "64:ff9b::/96", "100::/64", "fec0::/10"),
    )
]
Rule = tuple[str, int, int, str]
"""Protocol, first and last port, and source: a network, or what the cloud calls a group."""

_MAX_PAGE = 4096  # characters of a web page

STARTER_ENVIRONMENT = """\
[environment]                         # Python on the nodes; a change replaces them
packages = "client"                   # those of this Python; or ["dask[distributed]", "pandas"]
# requirements = "requirements.txt"   # instead of packages
# python = "3.12"                     # the version for packages or requirements
# docker = "daskdev/dask:latest"      # instead of packages, requirements and python
# env = { OMP_NUM_THREADS = "1" }
# setup = ["apt-get install -y graphviz"]
"""
"""Table for the starter of a cloud whose images have no Dask."""


def rejection(summary: str, detail: str = "", *, code: str = "") -> ProviderError:
    """Return the error for a request that is wrong in itself."""
    return ProviderError(ErrorKind.REJECTED, summary, detail, code=code)


def collect_rejections(
    checks: Iterable[Callable[[], Iterable[ProviderError]]],
) -> list[ProviderError]:
    """Return the errors that the checks yield, and the rejections that they raise, each once.

    Raise any other ProviderError: the cloud could not be checked.
    """
    found: dict[str, ProviderError] = {}
    for check in checks:
        try:
            for error in check():
                found.setdefault(error.summary, error)
        except ProviderError as error:
            if error.kind is not ErrorKind.REJECTED:
                raise
            found.setdefault(error.summary, error)
    return list(found.values())


def suggest(name: str, known: Iterable[str], otherwise: str = "", *, limit: int = 3) -> str:
    """Return "Did you mean …?" with the names in `known` like `name`, or `otherwise` without any."""
    from difflib import get_close_matches  # rarely needed

    names = sorted(set(known))
    matches = [n for n in names if n.lower() == name.lower()]
    *rest, last = [repr(n) for n in matches or get_close_matches(name, names, limit)] or [""]
    if not last:
        return otherwise
    return f"Did you mean {', '.join(rest)} or {last}?" if rest else f"Did you mean {last}?"


def make_alternatives(
    config: NodeConfig, *, sizes: Sequence[str] = (), zones: Sequence[str] = ()
) -> list[Choice]:
    """Return each size in each zone, in the spec's order, with spot before on-demand VMs.

    `sizes` and `zones` are the provider's defaults, for a config that names none.
    """
    markets = [True, False] if config.spot == "prefer" else [bool(config.spot)]
    return [
        Choice(size=size, zone=zone, spot=spot)
        for spot in markets
        for size in config.size or sizes or (None,)
        for zone in config.zones or zones or (None,)
    ]


class LookupCache:
    """Results of look-ups that do not change during an apply; for use by several threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._values: dict[str, Any] = {}

    def get(self, key: str, look_up: Callable[[], T]) -> T:
        """Return the result for `key`; call `look_up` only the first time."""
        with self._lock:
            if key not in self._values:
                self._values[key] = look_up()
            value: T = self._values[key]
            return value


def parse_network(text: str, *, allows_me: bool = False) -> str:
    """Return `text` as a network in canonical form, or `ME` unchanged if `allows_me`.

    Raise ValueError, with the problem and what to write in two lines, also for a network from which no
    client connects to a cloud.
    """
    if allows_me and text == ME:
        return text
    shown = text if len(text) <= 50 else f"{text[:50]}…"
    try:
        interface = ip_interface(text.strip())
        if "%" in text:
            raise ValueError
    except ValueError:
        me = ', or "me" for this machine' if allows_me else ""
        raise ValueError(
            f"`{shown}` is not a network\n"
            f'Write a network such as "203.0.113.0/24", or an address{me}.'
        ) from None
    network: Network = interface.network
    if interface.ip != network.network_address:
        raise ValueError(
            f"`{shown}` is an address in the network {network}\n"
            f"Write {network} for the network, or {interface.ip} for the address."
        )
    if reason := _describe_unusable(network):
        raise ValueError(
            f"`{shown}` is {reason}, from which no client connects\n"
            "Write the network of the clients, as the cloud sees it."
        )
    return str(network)


def _describe_unusable(network: Network) -> str:
    """Return what kind of network cannot be the source of a connection; empty for any other."""
    for reason, matches in (
        ("a multicast network", network.is_multicast),
        ("a loopback network", network.is_loopback),
        ("a link-local network", network.is_link_local),
        ("the unspecified address", network.is_unspecified),
        ("a reserved network", any(_is_within(network, other) for other in _RESERVED)),
    ):
        if matches:
            return reason
    return ""


def _is_within(network: Network, other: Network) -> bool:
    return (
        network.version == other.version
        and network.prefixlen >= other.prefixlen
        and network.network_address in other
    )


def wide_networks(networks: Iterable[str]) -> list[str]:
    """Return those of the networks that are, each or together, a large part of the internet."""
    public = [n for n in networks if not any(_is_within(ip_network(n), p) for p in _PRIVATE)]
    wide = [n for n in public if _count_addresses(ip_network(n)) >= WIDE_NETWORK_SIZE]
    if wide:
        return wide
    for version in (4, 6):
        found: Any = [n for n in map(ip_network, public) if n.version == version]
        if sum(map(_count_addresses, collapse_addresses(found))) >= WIDE_NETWORK_SIZE:
            wide += [n for n in public if ip_network(n).version == version]
    return wide


def _count_addresses(network: Network) -> int:
    # An IPv6 site has a /48 or smaller, so each /48 counts as one address.
    return network.num_addresses if network.version == 4 else 1 << max(0, 48 - network.prefixlen)


def disallow_network(resource: Resource, network: str) -> Resource:
    """Return the resource without `network` in `detail["allowed"]`.

    Raise a rejected ProviderError if `allow` did not add it.
    """
    try:
        removed = str(ip_network(network.strip()))  # also one that `allow` no longer accepts
    except ValueError:
        try:
            removed = parse_network(network)
        except ValueError as error:
            raise rejection(*str(error).split("\n")) from error
    allowed = [*resource.detail.get("allowed", ())]
    if removed not in allowed:
        if removed in open_networks(resource.detail):
            raise rejection(
                f"cannot remove {removed}: `allow_from` in the spec allows it",
                "Remove it from `allow_from` under [provider], then run `planapply apply`.",
            )
        raise rejection(
            f"{removed} is not allowed",
            f"Networks added by `planapply allow`: {', '.join(allowed) or 'none'}.",
        )
    allowed.remove(removed)
    return resource.model_copy(update={"detail": {**resource.detail, "allowed": allowed}})


def allow_network(resource: Resource, network: str) -> Resource:
    """Return the resource with `network` among those in `detail["allowed"]`.

    Raise a rejected ProviderError if it is not a network.
    """
    try:
        added = parse_network(network)
    except ValueError as error:
        raise rejection(*str(error).split("\n")) from error
    allowed = dict.fromkeys([*resource.detail.get("allowed", ()), added])
    return resource.model_copy(update={"detail": {**resource.detail, "allowed": [*allowed]}})


def scheduler_ports(options: Mapping[str, Any]) -> list[int]:
    """Return the ports of a scheduler with these options: its own, and the dashboard's, if any."""
    ports = [options.get("port") or DEFAULT_PORT]
    if options.get("dashboard") is not False:
        address = str(options.get("dashboard_address") or DEFAULT_DASHBOARD_PORT)
        port = address.rpartition(":")[2]
        ports.append(int(port) if port.isdigit() else DEFAULT_DASHBOARD_PORT)
    return [port for port in ports if port]


def open_networks(detail: Mapping[str, Any]) -> list[str]:
    """Return the networks that a resource lets in, from `allow_from`, `allowed`, and `me`, each once."""
    networks = [detail.get("me") if n == ME else n for n in detail.get("allow_from", ())]
    return [n for n in dict.fromkeys([*networks, *detail.get("allowed", ())]) if n]


def client_rules(detail: Mapping[str, Any]) -> set[Rule]:
    """Return the firewall rules for a resource with `allow_from`, `allowed`, `me`, and `ports`."""
    return {
        ("tcp", port, port, network)
        for network in open_networks(detail)
        for port in detail.get("ports", ())
    }


def user_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that the user has set."""
    return {key: value for key, value in tags.items() if not is_own_tag(key)}


def check_user_data(request: LaunchRequest, limit: int, cloud: str) -> None:
    """Raise a rejected ProviderError if the request's user data has more than `limit` bytes."""
    if len(request.user_data) > limit:
        raise rejection(
            f"user data for group {request.config.group} is too large: "
            f"{len(request.user_data):,} bytes compressed, and {cloud} allows {limit:,}",
            "Shorten `requirements`, `packages`, `setup`, or `options`; or use a container image "
            "(`docker`) or an `image` that has them installed.",
        )


def last_lines(text: str, lines: int) -> str:
    """Return the last `lines` lines of a console's text."""
    return "".join(text.splitlines(keepends=True)[-lines:]) if lines else ""


def is_web_page(content_type: str) -> bool:
    """Return whether a response is HTML: not from a cloud's API, but a proxy's or a login page."""
    return "html" in content_type.lower()


def excerpt_web_page(page: str) -> str:
    """Return the title of a web page, or the beginning of its text, in one line."""
    page = page[:_MAX_PAGE]  # the patterns take quadratic time
    title = re.search(r"<title[^>]*>(.*?)</title>", page, re.IGNORECASE | re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", title[1] if title else page).split())[:80]


def given_price(prices: Mapping[str, float], size: str | None) -> Price | None:
    """Return the price of a size in the spec's `[provider] price`; None if it has none."""
    usd = prices.get(size or "")
    return None if usd is None else Price(usd, "prices in the spec")


def listed_price(usd_per_hour: float | None, date: str) -> Price:
    """Return an on-demand price of Libcloud's list of that date; the list has 0 for unknown prices."""
    if not usd_per_hour:
        return Price(None)
    return Price(usd_per_hour, f"on demand, libcloud prices of {date}")


@cache
def load_price_list(driver: str) -> tuple[dict[str, Any], str]:
    """Return one driver's prices in the list that Libcloud ships, and the list's date.

    It takes 60 ms for 4.5 MB, and does not import Libcloud. Without Libcloud the list is empty.
    """
    package = importlib.util.find_spec("libcloud")
    if package is None or not package.submodule_search_locations:
        return {}, ""
    path = Path(package.submodule_search_locations[0], "data", "pricing.json")
    document = json.loads(path.read_bytes())
    date = datetime.fromtimestamp(document["updated"], UTC).date()
    return document["compute"].get(driver, {}), date.isoformat()
