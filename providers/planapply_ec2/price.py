"""Prices in USD per hour: Libcloud's list for on-demand VMs, EC2 itself for spot VMs."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from planapply.provider import Price
from planapply.providerkit import given_price, listed_price, load_price_list
from planapply_ec2.client import Client

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import SpotPriceTypeDef


def price(
    client: Client, given: Mapping[str, float], size: str, zone: str | None, spot: bool
) -> Price:
    """Return the price of one VM; for a spot VM without a zone, the highest price of all zones.

    `given` are the prices in the spec.
    """
    if not spot:
        return given_price(given, size) or find_on_demand_price(size, client.region)
    by_zone = client.cache.get(f"spot prices {size}", lambda: _find_spot_prices(client, size))
    usd = [price for z, price in by_zone.items() if zone in (None, z)]
    if not usd:
        return given_price(given, size) or Price(None)
    return Price(max(usd), f"spot, EC2 prices of {datetime.now(UTC).date()}")


def find_on_demand_price(size: str, region: str) -> Price:
    """Return the price in Libcloud's list."""
    prices, date = load_price_list("ec2_linux")
    return listed_price(prices.get(size, {}).get(region), date)


def _find_spot_prices(client: Client, size: str) -> dict[str, float]:
    """Return the highest current price in each zone."""
    now = datetime.now(UTC)
    with client.translate_errors():
        pages = client.ec2.get_paginator("describe_spot_price_history").paginate(
            InstanceTypes=[size],  # type: ignore[list-item]
            ProductDescriptions=["Linux/UNIX"],
            StartTime=now,  # the current prices, one for each zone
        )
        prices: list[SpotPriceTypeDef] = [p for page in pages for p in page["SpotPriceHistory"]]
    by_zone: dict[str, float] = {}
    for found in prices:
        zone, usd = found["AvailabilityZone"], float(found["SpotPrice"])
        by_zone[zone] = max(usd, by_zone.get(zone, 0.0))
    return by_zone
