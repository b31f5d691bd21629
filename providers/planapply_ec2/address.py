"""What address this machine has to the world."""

import ipaddress
import os
import urllib.request

from planapply.provider import ErrorKind, ProviderError

SERVICE_URL = "https://checkip.amazonaws.com"
URL_VARIABLE = "PLANAPPLY_CHECKIP_URL"
TIMEOUT = 5.0  # seconds


def detect_own_network() -> str:
    """This machine's public address as a network, asked of AWS's own service.

    Raises ProviderError where it can't be known, which says what to write instead.
    """
    url = os.environ.get(URL_VARIABLE, SERVICE_URL)
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            text = answer.read(100).decode("ascii", "replace").strip()
        return str(ipaddress.ip_network(text))
    except (OSError, ValueError) as error:
        raise ProviderError(
            ErrorKind.REJECTED,
            f"this machine's public address can't be found: {url}: {error}",
            'Is it online? Otherwise write in place of "me" the network that shall reach the '
            'scheduler, such as allow_from = ["203.0.113.0/24"] under [provider].',
        ) from error
