"""The fake cloud with a choice of sizes, and with a default image that is different each time."""

from itertools import count
from typing import Any

from cli.fake_plugin import CLOUD, Provider, Settings

from planapply.model.node import NodeConfig, Requirements
from planapply.provider import Plugin


class ChoosingProvider(Provider):
    """A provider whose choices are kept in the state as pins."""

    def choose(self, requirements: Requirements) -> list[str]:
        return ["small"] if requirements == Requirements() else ["large", "small"]

    def pins(self, config: NodeConfig) -> dict[str, Any]:
        return {"image": f"image-{next(IMAGES)}"}


IMAGES = count(1)
PLUGIN = Plugin(
    "choosing", "it chooses", Settings, lambda settings: ChoosingProvider(CLOUD[0]), security="none"
)
