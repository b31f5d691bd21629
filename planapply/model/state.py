"""What planapply has launched, or may have launched."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_serializer

from planapply.model.base import Record
from planapply.model.names import SCHEDULER
from planapply.model.node import VM, NodeConfig

FORMAT_VERSION = 1
CLOCK_SKEW = 300.0  # seconds that two well-kept clocks may differ


Timestamp = Annotated[float, Field(ge=0, lt=2.5e11)]
"""Seconds since the epoch, of a moment that a calendar has."""


class TLS(Record):
    """One self-signed pair, which is its own authority (what `Security.temporary()` makes)."""

    certificate: str
    key: SecretStr

    @field_serializer("key", when_used="json")
    def _serialize_key(self, key: SecretStr) -> str:
        # The state's file is where the key lives; `render` hides it from people.
        return key.get_secret_value()


class Endpoint(Record):
    """Where the scheduler answers, as Dask addresses."""

    private: str
    """What the nodes use."""
    public: str | None = None
    """What clients elsewhere use."""
    dashboard: str | None = None
    """An URL."""


class NodeRecord(Record):
    """One VM that is known to exist, or to have existed; its key in the state is the node's name."""

    vm: str
    """The provider's id."""
    config: str
    """A key of `State.configs`."""
    batch: str
    status: Literal["launched", "joined", "terminating"] = "launched"
    """`joined` once its Dask processes were seen at the scheduler; `terminating` before we ask for its end."""
    private_address: str | None = None
    public_address: str | None = None
    port: int | None = None
    size: str | None = None
    zone: str | None = None
    spot: bool = False
    launched_at: Timestamp | None = None
    tags: dict[str, str] = {}
    """The user's tags as last set; planapply's own follow from the rest."""

    @classmethod
    def from_vm(cls, vm: VM, config: str, tags: Mapping[str, str], asked_at: float) -> "NodeRecord":
        """What the state keeps of a VM; `asked_at` stands in for a launch time that isn't told."""
        return cls(
            vm=vm.id,
            config=config,
            batch=vm.batch,
            private_address=vm.private_address,
            public_address=vm.public_address,
            port=vm.port,
            size=vm.size,
            zone=vm.zone,
            spot=vm.spot,
            launched_at=asked_at if vm.launched_at is None else vm.launched_at,
            tags=dict(tags),
        )

    def must_be_visible(self, now: float, consistency_delay: float) -> bool:
        """Whether its VM, if it exists, is old enough to be shown; `consistency_delay` in seconds.

        A launch in the future means that a clock was wrong, and that its age is not known.
        """
        age = now - (self.launched_at or 0.0)
        return age > consistency_delay or age < -CLOCK_SKEW

    def with_addresses_of(self, vm: VM) -> "NodeRecord":
        """Itself, or a copy with the addresses that the cloud has given the VM since."""
        addresses = {
            "private_address": vm.private_address or self.private_address,
            "public_address": vm.public_address or self.public_address,
        }
        if all(getattr(self, key) == value for key, value in addresses.items()):
            return self
        return self.model_copy(update=addresses)


class Choice(Record):
    """Which of the alternatives in a config one attempt takes."""

    size: str | None = None
    zone: str | None = None
    spot: bool = False


class Intent(Record):
    """VMs that may exist although no answer is recorded: written before the provider is asked.

    Its key in the state is the token of the request and the batch tag of its VMs. User data is not
    kept: `bootstrap` makes the same from config, names and scheduler.
    """

    names: list[str]
    """A VM's place in the batch picks its name."""
    config: str
    choice: Choice
    scheduler: str | None = None
    """The address that workers were told; None for a scheduler."""
    asked_at: Timestamp
    """Seconds since the epoch, of the last time that the provider was asked."""


class Resource(Record):
    """Something beside VMs that the provider made for the cluster, such as a security group."""

    kind: str
    id: str | None = None
    """None until the provider's answer is recorded: it may exist."""
    detail: dict[str, Any] = {}

    def missing_details(self, desired: "Resource") -> list[str]:
        """What is wanted of it, by the keys of `detail`, and was not asked of the provider yet."""
        return [key for key, value in desired.detail.items() if self.detail.get(key) != value]


class State(Record):
    """The document; `store` alone reads and writes it."""

    format_version: int = FORMAT_VERSION
    planapply_version: str = ""
    lineage: str
    """A uuid, for life."""
    serial: Annotated[int, Field(ge=0)] = 0
    """One more with each write."""
    cluster: str
    provider: str
    cloud: dict[str, str] = {}
    """Whose cloud: the account, region, … that the provider's `identity` gave."""
    settings: dict[str, Any] = {}
    """The provider's settings, which hold no secrets; `destroy` needs no spec."""
    tls: TLS | None = None
    endpoint: Endpoint | None = None
    configs: dict[str, NodeConfig] = {}
    nodes: dict[str, NodeRecord] = {}
    intents: dict[str, Intent] = {}
    resources: dict[str, Resource] = {}
    pins: dict[str, Any] = {}
    """What was chosen once and is kept: images, sizes, my own network."""
    next_index: dict[str, int] = {}
    """For each group the first index that was never given; an elastic group goes on from there."""
    protect: bool = False
    """As in the spec last applied: nothing is destroyed or replaced."""

    @property
    def scheduler(self) -> NodeRecord | None:
        """The scheduler's node, if it was launched."""
        return self.nodes.get(SCHEDULER)

    @property
    def is_empty(self) -> bool:
        """Whether nothing of this cluster exists, nor may exist."""
        return not (self.nodes or self.intents or self.resources)
