"""The fake cloud as one that chooses sizes, and whose default image is never the same twice."""

from itertools import count
from typing import Any

from cli.fake_plugin import CLOUD, Provider, Settings

from planapply.model.node import NodeConfig, Requirements
from planapply.provider import Plugin


class ChoosingProvider(Provider):
    """What it chooses is pinned in the state."""

    def choose(self, requirements: Requirements) -> list[str]:
        return ["small"] if requirements == Requirements() else ["large", "small"]

    def pins(self, config: NodeConfig) -> dict[str, Any]:
        return {"image": f"image-{next(IMAGES)}"}


IMAGES = count(1)
PLUGIN = Plugin(
    "choosing", "it chooses", Settings, lambda settings: ChoosingProvider(CLOUD[0]), security="none"
)
