"""Prices in USD per hour: Libcloud's list for on-demand VMs, EC2 itself for spot VMs."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from planapply.provider import Price
from planapply.providerkit import listed_price, load_price_list
from planapply_ec2.client import Client

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import SpotPriceTypeDef


def price(client: Client, size: str, zone: str | None, spot: bool) -> Price:
    """Return the price of one VM; for a spot VM without a zone, the highest price of all zones."""
    if not spot:
        return find_on_demand_price(size, client.region)
    return client.cache.get(
        f"spot price {size} {zone}", lambda: _find_spot_price(client, size, zone)
    )


def find_on_demand_price(size: str, region: str) -> Price:
    """Return the price in Libcloud's list."""
    prices, date = load_price_list("ec2_linux")
    return listed_price(prices.get(size, {}).get(region), date)


def _find_spot_price(client: Client, size: str, zone: str | None) -> Price:
    now = datetime.now(UTC)
    with client.translate_errors():
        pages = client.ec2.get_paginator("describe_spot_price_history").paginate(
            InstanceTypes=[size],  # type: ignore[list-item]
            ProductDescriptions=["Linux/UNIX"],
            StartTime=now,  # the current prices, one for each zone
        )
        prices: list[SpotPriceTypeDef] = [p for page in pages for p in page["SpotPriceHistory"]]
    usd = [float(p["SpotPrice"]) for p in prices if zone in (None, p["AvailabilityZone"])]
    return Price(max(usd), f"spot, EC2 prices of {now.date()}") if usd else Price(None)
