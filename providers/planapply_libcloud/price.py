"""USD an hour, from the cloud's own list of sizes or Libcloud's; 0 is unknown."""

import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from planapply.provider import Price, ProviderError
from planapply_libcloud.catalog import Names
from planapply_libcloud.drivers.base import HOURS


def price(names: Names, size: str | None, zone: str | None, spot: bool) -> Price:
    """Of one VM on demand; of spot VMs these lists say nothing."""
    client = names.client
    if size is None or spot or not client.driver.prices:
        return Price(None)
    try:
        found = names.size(size, zone).price
    except ProviderError:
        return Price(None)  # what is wrong with the size, the plan says
    usd = float(found or 0.0) / (HOURS if client.driver.monthly else 1)
    if not usd:
        return Price(None)
    if client.driver.prices == "cloud":
        return Price(usd, f"on demand, {client.cloud}'s prices")
    return Price(usd, f"on demand, libcloud prices of {_day()}")


@cache
def _day() -> str:
    """That of the list which Libcloud ships."""
    import libcloud

    path = Path(libcloud.__file__).parent / "data" / "pricing.json"
    return datetime.fromtimestamp(json.loads(path.read_bytes())["updated"], UTC).date().isoformat()
