"""What a node is made from, and what a provider says of its VM."""

import hashlib
import json
from functools import cached_property
from typing import Any, Literal

from planapply.model.base import Model
from planapply.model.names import name_at

TAG_CLUSTER = "planapply:cluster"
TAG_LINEAGE = "planapply:lineage"
TAG_GROUP = "planapply:group"
TAG_BATCH = "planapply:batch"
TAG_NAMES = "planapply:names"
TAG_CONFIG = "planapply:config"
TAG_PREFIX = "planapply:"

DEFAULT_PORT = 8786
DEFAULT_DASHBOARD_PORT = 8787


class Environment(Model):
    """What Python runs on the nodes, with files read and `"client"` resolved."""

    python: str | None = None
    packages: tuple[str, ...] | None = None
    requirements: str | None = None
    """The text of the requirements file."""
    docker: str | None = None
    env: dict[str, str] = {}
    setup: tuple[str, ...] = ()


class Requirements(Model):
    """What a size must have, where the spec names no size."""

    cpus: int | None = None
    memory: int | None = None
    """Bytes."""
    gpus: int | None = None
    arch: str | None = None


class NodeConfig(Model):
    """All that a node is made from; equal for all members of a group.

    A changed value means another VM, apart from `tags`, which the digest leaves out: a provider may
    be able to change those in place.
    """

    group: str
    cls: str
    options: dict[str, Any] = {}
    processes: int = 1
    environment: Environment = Environment()
    size: tuple[str, ...] = ()
    """In the order they are tried; empty: the provider's default, or what `requirements` picks."""
    requirements: Requirements | None = None
    image: str | None = None
    zones: tuple[str, ...] = ()
    spot: bool | Literal["prefer"] = False
    disk: int | None = None
    """Bytes."""
    create: dict[str, Any] = {}
    """More arguments for Libcloud's `create_node`."""
    security: Literal["tls", "none"] = "none"
    idle_timeout: float | None = None
    """Seconds; on the scheduler only."""
    ttl: float | None = None
    """Seconds."""
    provider: dict[str, Any] = {}
    """Those of the provider's settings whose change needs another VM."""
    tags: dict[str, str] = {}

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that two configs share exactly if their VMs are interchangeable."""
        document = self.model_dump(mode="json", exclude={"tags"}, exclude_defaults=True)
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class VM(Model):
    """One VM as its provider reports it; never stored, see `NodeRecord`."""

    id: str
    status: Literal["pending", "running", "stopping", "stopped"] = "running"
    """`stopping` is on its way to its end; a terminated VM is not reported at all. `stopped` has
    switched itself off on a cloud that keeps such VMs, or failed: it does nothing, and has to be
    ended."""
    tags: dict[str, str]
    index: int = 0
    """Its place in the batch it was launched in."""
    private_address: str | None = None
    public_address: str | None = None
    port: int | None = None
    """Where the provider chose the scheduler's port itself (local); else None."""
    size: str | None = None
    zone: str | None = None
    image: str | None = None
    spot: bool = False
    launched_at: float | None = None
    """Seconds since the epoch."""

    @property
    def is_active(self) -> bool:
        """Whether it is, or may become, of use."""
        return self.status in ("pending", "running")

    @property
    def batch(self) -> str:
        """The token of the request that it came from."""
        return self.tags.get(TAG_BATCH, "")

    @property
    def name(self) -> str | None:
        """The node that it is: batch and place give the name; None where its tags don't say."""
        return name_at(self.tags.get(TAG_NAMES, "").split(), self.index)
