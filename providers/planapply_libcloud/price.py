"""USD an hour, from the cloud's own list of sizes or Libcloud's; 0 is unknown."""

import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from planapply.provider import Price, ProviderError
from planapply_libcloud.catalog import Catalog
from planapply_libcloud.drivers.base import HOURS_PER_MONTH


def price(catalog: Catalog, size: str | None, zone: str | None, spot: bool) -> Price:
    """Of one VM on demand; of spot VMs these lists say nothing."""
    client = catalog.client
    if size is None or spot or not client.driver.price_source:
        return Price(None)
    try:
        found = catalog.size(size, zone).price
    except ProviderError:
        return Price(None)  # what is wrong with the size, the plan says
    usd = float(found or 0.0) / (HOURS_PER_MONTH if client.driver.has_monthly_prices else 1)
    if not usd:
        return Price(None)
    if client.driver.price_source == "cloud":
        return Price(usd, f"on demand, {client.cloud}'s prices")
    return Price(usd, f"on demand, libcloud prices of {_read_price_date()}")


@cache
def _read_price_date() -> str:
    """That of the list which Libcloud ships."""
    import libcloud

    path = Path(libcloud.__file__).parent / "data" / "pricing.json"
    return datetime.fromtimestamp(json.loads(path.read_bytes())["updated"], UTC).date().isoformat()
