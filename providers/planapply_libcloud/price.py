"""Prices in USD per hour, from the cloud's own list of sizes or from Libcloud's."""

from planapply.provider import Price, ProviderError
from planapply.providerkit import given_price, listed_price, load_price_list
from planapply_libcloud.catalog import Catalog
from planapply_libcloud.drivers.base import HOURS_PER_MONTH


def price(catalog: Catalog, size: str | None, zone: str | None, spot: bool) -> Price:
    """Return the price in the spec, or the on-demand price of one VM; the lists have no spot prices."""
    client = catalog.client
    if given := given_price(client.settings.price, size):
        return given
    if size is None or spot or not client.driver.price_source:
        return Price(None)
    try:
        found = catalog.size(size, zone).price
    except ProviderError:
        return Price(None)  # `check` reports what is wrong with the size
    usd = float(found or 0.0) / (HOURS_PER_MONTH if client.driver.has_monthly_prices else 1)
    if client.driver.price_source == "libcloud":
        return listed_price(usd, load_price_list("")[1])
    return Price(usd, f"on demand, {client.cloud}'s prices") if usd else Price(None)
