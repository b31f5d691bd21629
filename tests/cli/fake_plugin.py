"""The fake cloud as an installed provider, `fake`, also for commands in separate processes."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from fake_provider import FakeCloud, FakeProvider

from planapply.fleet import SystemClock
from planapply.model.base import Model
from planapply.model.state import Resource
from planapply.provider import LaunchRequest, LaunchResult, Limits, Plugin, Price
from planapply.providerkit import last_lines


class Settings(Model):
    """The settings: a region."""

    region: str | None = None


def new_cloud() -> FakeCloud:
    """Return a cloud without delays: a VM that is not visible does not exist."""
    resources = {"firewall": Resource(kind="group")} if "FAKE_FIREWALL" in os.environ else {}
    return FakeCloud(
        SystemClock(),
        limits=Limits(batch=10, consistency_delay=0.0, poll=0.01),
        required_resources=resources,
    )


EXTRA_IDENTITY: dict[str, str] = {}
"""Further properties of the cloud, such as a region."""
CLOUD = [new_cloud()]
"""The current cloud of the provider."""


class Provider(FakeProvider):
    """A provider with prices and a console; a launch can be made to wait for a file."""

    def identity(self) -> dict[str, str]:
        return {**super().identity(), **EXTRA_IDENTITY}

    def price(self, size: str | None, zone: str | None, spot: bool) -> Price:
        return Price({"small": 0.1, "large": 1.5}.get(size or ""), "list prices of 2025-03-02")

    def console(self, id: str, lines: int) -> str:
        if id in self.cloud.consoles:
            return last_lines(self.cloud.consoles[id], lines)
        return "".join(f"line {i} of {id}\n" for i in range(100)[-lines:])

    def launch(self, request: LaunchRequest) -> LaunchResult:
        result = super().launch(request)
        if "FAKE_FOLDER" in os.environ:
            folder = Path(os.environ["FAKE_FOLDER"])
            (folder / "asked").touch()
            _wait_until((folder / "answer").exists)
        return result


def _wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.01)


PLUGIN = Plugin(
    "fake",
    "a cloud in memory",
    Settings,
    lambda settings: Provider(CLOUD[0]),
    security="none",
    costs_money=False,
)
