"""The configuration of a node, and a VM as its provider reports it."""

import hashlib
import json
from functools import cached_property
from typing import Any, Literal

from planapply.model.base import Model
from planapply.model.lifetimes import LIFETIME_KEYS, Lifetimes
from planapply.model.names import is_node_name, name_at
from planapply.model.state_fields import NonEmptyText

TAG_CLUSTER = "planapply:cluster"
TAG_LINEAGE = "planapply:lineage"
TAG_GROUP = "planapply:group"
TAG_BATCH = "planapply:batch"
TAG_NAMES = "planapply:names"
TAG_CONFIG = "planapply:config"
TAG_STATE = "planapply:state"
"""The user who launched the VM, and the location of the state: for display only, and never compared."""
TAG_PREFIX = "planapply:"

DEFAULT_PORT = 8786
DEFAULT_DASHBOARD_PORT = 8787


def is_own_tag(key: str) -> bool:
    """Return whether planapply itself sets this tag."""
    return key == "Name" or key.startswith(TAG_PREFIX)


class Environment(Model):
    """The Python environment of the nodes, with files read and `"client"` resolved."""

    python: str | None = None
    packages: tuple[str, ...] | None = None
    requirements: str | None = None
    """The content of the requirements file."""
    docker: str | None = None
    env: dict[str, str] = {}
    setup: tuple[str, ...] = ()


class Requirements(Model):
    """The properties that a size must have, if the spec names no size."""

    cpus: int | None = None
    memory: int | None = None
    """Bytes."""
    gpus: int | None = None
    arch: str | None = None


class NodeConfig(Model):
    """The configuration of a node, the same for all nodes of a group.

    A changed value requires another VM. The exceptions are `tags`, which a provider may support changing in
    place, and the scheduler's lifetimes: the digest excludes them.
    """

    group: str
    cls: str
    options: dict[str, Any] = {}
    processes: int = 1
    environment: Environment = Environment()
    size: tuple[str, ...] = ()
    """In the order in which they are tried; empty for the provider's default, or with `requirements`."""
    requirements: Requirements | None = None
    image: str | None = None
    zones: tuple[str, ...] = ()
    spot: bool | Literal["prefer"] = False
    disk: int | None = None
    """Bytes."""
    create: dict[str, Any] = {}
    """More arguments of Libcloud's `create_node`."""
    security: Literal["tls", "none"] = "none"
    idle_timeout: float | None = None
    """Seconds; for the scheduler only."""
    no_client_timeout: float | None = None
    """Seconds; for the scheduler only."""
    ttl: float | None = None
    """Seconds."""
    provider: dict[str, Any] = {}
    """The provider's settings whose change requires another VM."""
    tags: dict[str, str] = {}

    @cached_property
    def digest(self) -> str:
        """Return 16 hexadecimal digits, the same for two configs whose VMs are interchangeable."""
        return self._hash({"tags", *LIFETIME_KEYS})

    @cached_property
    def digests(self) -> frozenset[str]:
        """Return the digest, and the one of earlier versions, which includes `idle_timeout`."""
        return frozenset({self.digest, self._hash({"tags", "no_client_timeout"})})

    @property
    def lifetimes(self) -> Lifetimes:
        """Return the times after which the scheduler terminates the cluster."""
        return Lifetimes(idle_timeout=self.idle_timeout, no_client_timeout=self.no_client_timeout)

    def _hash(self, excluded: set[str]) -> str:
        document = self.model_dump(mode="json", exclude=excluded, exclude_defaults=True)
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class VM(Model):
    """A VM as its provider reports it; the state has a `NodeRecord` instead."""

    id: NonEmptyText
    status: Literal["pending", "running", "stopping", "stopped"] = "running"
    """`stopping`: the VM is shutting down; a terminated VM is not reported at all. `stopped`: the VM failed, or
    powered itself off on a cloud that keeps such VMs; it does nothing, and must be terminated."""
    tags: dict[str, str]
    index: int = 0
    """The VM's index in the batch that it was launched in."""
    token: str | None = None
    """The token of the request that launched the VM, as the cloud recorded it: unlike tags, it never changes.
    Empty if the request had none; None if the cloud does not report it."""
    private_address: str | None = None
    public_address: str | None = None
    port: int | None = None
    """The scheduler's port, if the provider chose it (local)."""
    size: str | None = None
    zone: str | None = None
    image: str | None = None
    spot: bool = False
    groups: tuple[str, ...] | None = None
    """IDs of the security groups that the VM is in; None if the cloud does not report them."""
    launched_at: float | None = None
    """Seconds since the epoch."""

    @property
    def is_active(self) -> bool:
        """Return whether the VM runs or is about to."""
        return self.status in ("pending", "running")

    @property
    def batch(self) -> str:
        """Return the token of the request that launched the VM."""
        return self.tags.get(TAG_BATCH, "")

    @property
    def name(self) -> str | None:
        """Return the VM's node, from its batch and index; None if its tags name no node."""
        name = name_at(self.tags.get(TAG_NAMES, "").split(), self.index)
        return name if name is not None and is_node_name(name) else None

    def has_token(self, token: str) -> bool:
        """Return whether the request with this token launched the VM, as far as the cloud can say.

        Anyone who may change tags can give any VM the batch tag, but not the cloud's own record of the token.
        """
        return bool(token) and self.batch == token and self.token in (None, token)
