"""USD an hour: Libcloud's list for VMs on demand, EC2's own answer for spot."""

import importlib.util
import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from planapply.provider import Price
from planapply_ec2.client import Client

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import SpotPriceTypeDef


def price(client: Client, size: str, zone: str | None, spot: bool) -> Price:
    """Of one VM; for a spot VM in no certain zone, the dearest of the zones."""
    if not spot:
        return find_on_demand_price(size, client.region)
    return client.get_cached(
        f"spot price {size} {zone}", lambda: _find_spot_price(client, size, zone)
    )


def find_on_demand_price(size: str, region: str) -> Price:
    """From the list that Libcloud ships: what it lacks, or has as 0.0, is unknown."""
    prices, day = _load_prices()
    usd = prices.get(size, {}).get(region)
    return Price(usd, f"on demand, libcloud prices of {day}") if usd else Price(None)


@cache
def _load_prices() -> tuple[dict[str, dict[str, float]], str]:
    """By size and region, and the day it is of: 60 ms for 4.5 MB; libcloud is not imported."""
    package = importlib.util.find_spec("libcloud")
    if package is None or not package.submodule_search_locations:
        return {}, ""
    path = Path(package.submodule_search_locations[0], "data", "pricing.json")
    document = json.loads(path.read_bytes())
    day = datetime.fromtimestamp(document["updated"], UTC).date()
    return document["compute"]["ec2_linux"], day.isoformat()


def _find_spot_price(client: Client, size: str, zone: str | None) -> Price:
    now = datetime.now(UTC)
    with client.translate_errors():
        pages = client.ec2.get_paginator("describe_spot_price_history").paginate(
            InstanceTypes=[size],  # type: ignore[list-item]
            ProductDescriptions=["Linux/UNIX"],
            StartTime=now,  # the prices of this moment, one for each zone
        )
        prices: list[SpotPriceTypeDef] = [p for page in pages for p in page["SpotPriceHistory"]]
    usd = [float(p["SpotPrice"]) for p in prices if zone in (None, p["AvailabilityZone"])]
    return Price(max(usd), f"spot, EC2 prices of {now.date()}") if usd else Price(None)
