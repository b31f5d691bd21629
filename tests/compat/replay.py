"""The lab's EC2 with ids, addresses and times in sequence, and a way to repeat recorded calls.

A cloud is kept as the calls that made it: the same calls make VMs with the same ids, addresses,
tags, tokens and user data. Every address is in 127.0.0.0/8.
"""

import itertools
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock
from urllib.parse import urlencode

from lab.honest import Cloud
from lab.seed import ACCOUNT
from moto.ec2.models import ec2_backends

from planapply import fleet

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
    """Number what moto makes from 1, with the default network of the first region that is used.

    Enter it when the cloud has been made: that resets the regions which an earlier test used.
    """

    def ids(prefix: str) -> Any:
        numbers = itertools.count(1)
        return lambda: f"{prefix}-{next(numbers):017x}"

    ec2_backends[ACCOUNT].clear()
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
        replace("elastic_network_interfaces.random_public_ip", lambda: f"127.2.0.{next(public)}")
        replace(
            "instances.utcnow",
            lambda: (EPOCH + timedelta(seconds=next(seconds))).replace(tzinfo=None),
        )
        yield


def replay(cloud: Cloud, calls: Iterable[dict[str, Any]]) -> None:
    """Repeat recorded calls in an empty cloud that is served; their outcomes must be as recorded."""
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
        assert made.params == kept["params"]
        assert made.outcome == kept["outcome"], (made.outcome, kept["params"])
    cloud.clear()


@contextmanager
def clock(advance: Callable[[float], None], start: float) -> Iterator[Callable[[float], None]]:
    """Let planapply's clock move only when planapply waits, and the cloud's with it.

    Yields a function that lets a number of seconds pass for both. `start` is in seconds since the
    epoch; no test waits for real.
    """
    passed = 0.0

    def move(seconds: float) -> None:
        nonlocal passed
        advance(seconds)
        passed += seconds

    def sleep(self: Any, seconds: float) -> None:
        self.check()
        move(seconds)

    def monotonic(self: Any) -> float:
        return passed

    def time(self: Any) -> float:
        return start + passed

    with (
        mock.patch.object(fleet.SystemClock, "sleep", sleep),
        mock.patch.object(fleet.SystemClock, "monotonic", monotonic),
        mock.patch.object(fleet.SystemClock, "time", time),
    ):
        yield move
