"""Driver without an entry in the table, as a user may write one: a cloud in this process."""

from typing import Any, ClassVar

from libcloud.compute.base import Node, NodeDriver, NodeImage, NodeLocation, NodeSize
from libcloud.compute.providers import DRIVERS, set_driver
from libcloud.compute.types import NodeState

NAME = "acme"


class AcmeDriver(NodeDriver):
    """Driver that stores names, requires a network, and raises bare exceptions."""

    nodes: ClassVar[dict[str, Node]] = {}
    failures: ClassVar[list[Exception]] = []
    create_calls: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, key: str, secret: str | None = None, region: str = "moon") -> None:
        self.key, self.region = key, region

    def list_nodes(self) -> list[Node]:
        return list(self.nodes.values())

    def list_sizes(self, location: Any = None) -> list[NodeSize]:
        return [
            NodeSize(f"acme-{n}", f"Acme {n}", 1024 * n, 10, 0, 0.0, self, {"cpus": n})
            for n in (1, 2, 4)
        ]

    def list_images(self, location: Any = None) -> list[NodeImage]:
        return [NodeImage(i, name, self) for i, name in (("i1", "dask"), ("i2", "bare"))]

    def list_locations(self) -> list[NodeLocation]:
        return [NodeLocation("m1", "moon-1", "", self)]

    def create_node(
        self, name: str, size: NodeSize, image: NodeImage, acme_network: str, ex_rack: int = 0
    ) -> Node:
        if self.failures:
            raise self.failures.pop(0)
        address = f"127.0.0.{len(self.nodes) + 1}"
        node = Node(name, name, NodeState.RUNNING, [], [address], self, size, image)
        self.nodes[name] = node
        self.create_calls.append({"network": acme_network, "rack": ex_rack, "image": image.id})
        return node

    def destroy_node(self, node: Node) -> bool:
        del self.nodes[node.id]
        return True


class ReadOnlyDriver(NodeDriver):
    """Driver that cannot create nodes."""

    def list_nodes(self) -> list[Node]:
        return []


def install() -> None:
    """Register the driver with Libcloud."""
    AcmeDriver.nodes.clear()
    AcmeDriver.failures.clear()
    AcmeDriver.create_calls.clear()
    for name, kind in ((NAME, AcmeDriver), ("readonly", ReadOnlyDriver)):
        if name not in DRIVERS:
            set_driver(name, kind.__module__, kind.__name__)
