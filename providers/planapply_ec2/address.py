"""Detection of this machine's public address."""

import ipaddress
import os
import urllib.request

from planapply.provider import ProviderError
from planapply.providerkit import rejection

SERVICE_URL = "https://checkip.amazonaws.com"
URL_VARIABLE = "PLANAPPLY_CHECKIP_URL"
TIMEOUT = 5.0  # seconds


def detect_own_network() -> str:
    """Return this machine's public address as a network, from AWS's own service.

    Raise a rejected ProviderError, which says what to write instead, if the service cannot be used.
    """
    url = os.environ.get(URL_VARIABLE, SERVICE_URL)
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            text = answer.read(100).decode("ascii", "replace").strip()
        return str(ipaddress.ip_network(_parse_address(text)))
    except (OSError, ValueError) as error:
        raise _detection_error(url, error) from error


def _parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the one address in the service's answer; raise ValueError for anything else.

    The answer goes into a firewall, and a network such as 0.0.0.0/0 would open it to everybody.
    """
    address = ipaddress.ip_address(text)
    is_host = not (address.is_unspecified or address.is_multicast)
    if not is_host or "%" in text or getattr(address, "ipv4_mapped", None):
        raise ValueError(f"{text!r} is not the address of a machine")
    return address


def _detection_error(url: str, error: Exception) -> ProviderError:
    return rejection(
        f"cannot detect this machine's public address: {url}: {error}",
        'Check that this machine is online. Or, instead of "me", write the network that may reach '
        'the scheduler: allow_from = ["203.0.113.0/24"] under [provider].',
    )
