"""Detection of this machine's public address."""

import ipaddress
import os
import urllib.request
from http.client import HTTPException

from planapply.provider import ProviderError
from planapply.providerkit import parse_network, rejection

SERVICE_URL = "https://checkip.amazonaws.com"
URL_VARIABLE = "PLANAPPLY_CHECKIP_URL"
TIMEOUT = 5.0  # seconds
_MAX_ANSWER = 100  # bytes
_MAX_ADDRESS = 45  # characters of an IPv6 address


def detect_own_network() -> str:
    """Return this machine's public address as a network, from AWS's own service.

    Raise a rejected ProviderError, which says what to write instead, if the service cannot be used.
    """
    url = os.environ.get(URL_VARIABLE, SERVICE_URL)
    if not url.lower().startswith(("https://", "http://")):
        raise rejection(
            f"cannot detect this machine's public address: {URL_VARIABLE} is not an HTTP URL",
            f"Set it to a URL that begins with https://, or unset it to use {SERVICE_URL}.",
        )
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            text = answer.read(_MAX_ANSWER).decode("ascii", "replace").strip()
        return str(ipaddress.ip_network(_parse_address(text)))
    except (OSError, ValueError, HTTPException) as error:
        raise _detection_error(url, error) from error


def _parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the one address in the service's answer; raise ValueError for anything else.

    The answer goes into a firewall, and a network such as 0.0.0.0/0 would open it to everybody.
    """
    # It may be a web page, such as that of a hotel's Wi-Fi.
    shown = ascii(text) if len(text) <= _MAX_ADDRESS else f"{text[:_MAX_ADDRESS]!a}…"
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{shown} is not an address") from None
    try:
        parse_network(text)  # which refuses what is no single machine, such as a multicast address
    except ValueError:
        raise ValueError(f"{shown} is not the address of a machine") from None
    return address


def _detection_error(url: str, error: Exception) -> ProviderError:
    return rejection(
        f"cannot detect this machine's public address: {url}: {error}",
        'Check that this machine is online. Or, instead of "me", write the network that may reach '
        'the scheduler: allow_from = ["203.0.113.0/24"] under [provider].',
    )
