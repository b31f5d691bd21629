"""The lab's EC2 with ids, addresses and times in sequence, and the calls of a cluster made again.

So a cloud is kept as the calls that made it: the same calls give VMs with the same ids, addresses,
tags, tokens and user data. Every address is of 127.0.0.0/8.
"""

import itertools
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock
from urllib.parse import urlencode

from lab.honest import Cloud

EPOCH = datetime(2026, 9, 1, 12, tzinfo=UTC)
"""When the kept clusters were made, by the clocks of planapply and of the lab."""
REGION = "eu-west-1"
_MODELS = "moto.ec2.models"
_IDS = {
    "instances.random_instance_id": "i",
    "security_groups.random_security_group_id": "sg",
    "subnets.random_subnet_id": "subnet",
    "vpcs.random_vpc_id": "vpc",
}


@contextmanager
def in_sequence() -> Iterator[None]:
    """Let moto number what it makes, from 1."""

    def ids(prefix: str) -> Any:
        numbers = itertools.count(1)
        return lambda: f"{prefix}-{next(numbers):017x}"

    private, public, seconds = (itertools.count(1) for _ in range(3))
    with ExitStack() as stack:

        def replace(target: str, value: Any) -> None:
            stack.enter_context(mock.patch(f"{_MODELS}.{target}", value))

        for target, prefix in _IDS.items():
            replace(target, ids(prefix))
        def address(*_: Any, **__: Any) -> str:
            return f"127.1.0.{next(private)}"

        for target in (
            "subnets.Subnet.get_available_subnet_ip",
            "instances.random_private_ip",
            "elastic_network_interfaces.random_private_ip",
        ):
            replace(target, address)
        replace(
            "elastic_network_interfaces.random_public_ip", lambda: f"127.2.0.{next(public)}"
        )
        replace(
            "instances.utcnow",
            lambda: (EPOCH + timedelta(seconds=next(seconds))).replace(tzinfo=None),
        )
        yield


def replay(cloud: Cloud, calls: Iterable[dict[str, Any]]) -> None:
    """Make these calls to a cloud that is empty and served, and see them end as they did."""
    for kept in calls:
        scope = f"lab/20260901/{REGION}/ec2/aws4_request"
        request = urllib.request.Request(
            cloud.url,
            urlencode(kept["params"]).encode(),
            {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, Signature=none"},
        )
        try:
            urllib.request.urlopen(request).close()
        except urllib.error.HTTPError as error:
            error.close()
        made = cloud.calls[-1]
        assert (made.params, made.outcome) == (kept["params"], kept["outcome"])
    cloud.clear()
