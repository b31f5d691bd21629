"""The state: what planapply has launched for a cluster, or may have launched."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_serializer

from planapply.model.base import Record
from planapply.model.end_reason import EndedVM
from planapply.model.history import PastChange, Spend
from planapply.model.lifetimes import Lifetimes
from planapply.model.names import SCHEDULER
from planapply.model.node import VM, NodeConfig
from planapply.model.state_fields import (
    DashboardURL,
    DaskAddress,
    Host,
    NodeName,
    NonEmptyText,
    PlainText,
    Port,
    ResourceDetail,
    SpecTables,
    Timestamp,
)

FORMAT_VERSION = 2
MAX_ISSUED = 1000
"""Maximum number of tokens in `State.issued`."""
CLOCK_SKEW = 300.0  # seconds; two clocks that are set correctly differ by less


class TLS(Record):
    """A self-signed certificate and its key, as created by `distributed.Security.temporary()`."""

    certificate: str
    key: SecretStr

    @field_serializer("key", when_used="json")
    def _serialize_key(self, key: SecretStr) -> str:
        # The state's file is where the key is kept; `render` hides it from people.
        return key.get_secret_value()


class Endpoint(Record):
    """The addresses of the scheduler, in Dask's form."""

    private: DaskAddress
    """The address for the nodes."""
    public: DaskAddress | None = None
    """The address for clients outside the cloud's network."""
    dashboard: DashboardURL | None = None
    """A URL."""


class Choice(Record):
    """The alternative of a config (size, zone, spot) that one launch request uses."""

    size: PlainText | None = None
    zone: PlainText | None = None
    spot: bool = False


class NodeRecord(Record):
    """The VM of one node, which exists or has existed; its key in the state is the node's name."""

    vm: NonEmptyText
    """The provider's ID of the VM."""
    config: PlainText
    """A key of `State.configs`."""
    batch: str
    status: Literal["launched", "joined", "terminating"] = "launched"
    """`joined`: the node's Dask processes have joined the scheduler; `terminating`: written before the request
    to terminate the VM."""
    private_address: Host | None = None
    public_address: Host | None = None
    port: Port | None = None
    size: PlainText | None = None
    zone: PlainText | None = None
    spot: bool = False
    launched_at: Timestamp | None = None
    joined_at: Timestamp | None = None
    """When the node was first seen as joined; None before that, and in a state of an older version."""
    tags: dict[str, str] = {}
    """The user's tags as last set; planapply's own follow from the other fields."""
    lifetimes: Lifetimes | None = None
    """The scheduler's lifetimes as last set; None for a worker, and for a scheduler that is not known to have
    planapply's plugin: then they are those of its configuration, and cannot change in place."""
    secrets: dict[str, PlainText] = {}
    """Digests of the secrets that the node was given, by variable; none if they are not known."""

    @classmethod
    def from_vm(
        cls,
        vm: VM,
        config: str,
        tags: Mapping[str, str],
        requested_at: float,
        lifetimes: Lifetimes | None = None,
        secrets: Mapping[str, str] = {},
    ) -> "NodeRecord":
        """Return the record of a VM; `requested_at` replaces a launch time that the cloud does not report."""
        return cls(
            vm=vm.id,
            config=config,
            batch=vm.batch,
            private_address=vm.private_address or None,
            public_address=vm.public_address or None,
            port=vm.port,
            size=vm.size,
            zone=vm.zone,
            spot=vm.spot,
            launched_at=requested_at if vm.launched_at is None else vm.launched_at,
            tags=dict(tags),
            lifetimes=lifetimes,
            secrets=dict(secrets),
        )

    @property
    def choice(self) -> Choice:
        """Return the size, zone, and market of the VM."""
        return Choice(size=self.size, zone=self.zone, spot=self.spot)

    def must_be_visible(self, now: float, consistency_delay: float) -> bool:
        """Return whether the VM is so old that the cloud must show it if it exists.

        `now` is in seconds since the epoch, `consistency_delay` in seconds. A launch time in the future
        means that a clock was wrong, and that the VM's age is unknown: then return True.
        """
        age = now - (self.launched_at or 0.0)
        return age > consistency_delay or age < -CLOCK_SKEW

    def with_addresses_of(self, vm: VM) -> "NodeRecord":
        """Return a copy with the VM's current addresses and port, or the record itself if they are unchanged.

        A VM that is not running keeps the addresses that were recorded.
        """
        is_known = vm.status == "running" and vm.private_address is not None
        addresses = {
            "private_address": vm.private_address or self.private_address,
            "public_address": vm.public_address or (None if is_known else self.public_address),
            "port": vm.port or self.port,
        }
        if all(getattr(self, key) == value for key, value in addresses.items()):
            return self
        return self.model_copy(update=addresses)


class Intent(Record):
    """The VMs that a launch request may create; written before the request is sent.

    Its key in the state is the token of the request, which is also the batch tag of its VMs. User data
    is not kept: `bootstrap` creates the same from config, names, and scheduler address.
    """

    names: list[NodeName]
    """The VM's index in the batch selects its name."""
    config: PlainText
    choice: Choice
    scheduler_address: DaskAddress | None = None
    """The scheduler's address in the workers' user data; None for a scheduler."""
    lifetimes: Lifetimes | None = None
    """The scheduler's lifetimes in the request; None for workers, and in a request of an older version."""
    secrets: dict[str, PlainText] = {}
    """Digests of the secrets in the request, by variable: with other values, it would be another request."""
    requested_at: Timestamp
    """When the request was last sent."""


class Resource(Record):
    """A supporting resource, such as a security group."""

    kind: NonEmptyText
    id: NonEmptyText | None = None
    """None until the provider's response is recorded: the resource may exist."""
    detail: ResourceDetail = {}

    def missing_details(self, desired: "Resource") -> list[str]:
        """Return the keys of `detail` whose desired value was not requested from the provider yet."""
        return [key for key, value in desired.detail.items() if self.detail.get(key) != value]


class State(Record):
    """The whole state of a cluster; only `store` reads and writes it."""

    format_version: int = FORMAT_VERSION
    planapply_version: str = ""
    lineage: PlainText
    """A UUID that stays the same for the life of the cluster."""
    serial: Annotated[int, Field(ge=0)] = 0
    """Increased by one with each write."""
    cluster: NonEmptyText
    provider: NonEmptyText
    cloud: dict[PlainText, PlainText] = {}
    """The account, region, and so on, as the provider's `identity` returned them."""
    settings: dict[PlainText, Any] = {}
    """The provider's settings, without secrets, so that `destroy` needs no spec."""
    spec: SpecTables | None = None
    """The spec last applied to the whole cluster, as JSON, so that scaling needs no spec; None in a state
    of an older version, and after a destroy."""
    tls: TLS | None = None
    endpoint: Endpoint | None = None
    configs: dict[PlainText, NodeConfig] = {}
    nodes: dict[NodeName, NodeRecord] = {}
    intents: dict[PlainText, Intent] = {}
    resources: dict[PlainText, Resource] = {}
    pins: dict[PlainText, Any] = {}
    """Choices that were made once and are kept: images, sizes, this machine's network."""
    issued: dict[str, Timestamp] = {}
    """The batch tokens that were issued last, oldest first, and when; those of nodes and intents are known
    anyway. A VM with any other batch was not launched by planapply, whatever its tags say."""
    secret_salt: PlainText = ""
    """The salt of the digests of secrets; empty until the first one."""
    origin: str = ""
    """The value of the tag `planapply:state` of new VMs: who applied, and the location of the state."""
    next_index: dict[str, int] = {}
    """The first index of each group that was never used; new nodes of an elastic group start there."""
    protect: bool = False
    """The value in the spec last applied: nothing may be destroyed or replaced."""
    attempts: dict[NodeName, list[PlainText]] = {}
    """The VMs of a node that failed in a row, the newest last: they did not join, or were lost soon after.
    `planapply watch` gives up on a node after several; an apply, or a longer life, begins again."""
    history: list[PastChange] = []
    """The last changes, the newest last; they outlive the cluster."""
    ended: list[EndedVM] = []
    """The VMs that were found ended last, the newest last; they outlive the cluster."""
    spend: Spend | None = None
    """Cost of this cluster since it was created; None if the provider has no prices. It starts again with the
    next cluster."""

    @property
    def scheduler(self) -> NodeRecord | None:
        """Return the record of the scheduler, or None if there is none."""
        return self.nodes.get(SCHEDULER)

    @property
    def lifetimes(self) -> Lifetimes:
        """Return the scheduler's lifetimes as last set, as far as they are known."""
        record = self.scheduler
        if record is None:
            return Lifetimes()
        config = self.configs.get(record.config)
        return record.lifetimes or (config.lifetimes if config else Lifetimes())

    @property
    def batches(self) -> set[str]:
        """Return every batch whose VMs may be adopted or terminated.

        A state of an older version has no `issued`: its tokens are those of its nodes and intents.
        """
        recorded = {record.batch for record in self.nodes.values()}
        return ({*self.issued} | recorded | self.intents.keys()) - {""}

    def issue(self, tokens: Iterable[str], now: float) -> None:
        """Record tokens that are about to be used, or whose nodes are about to be removed; drop the oldest."""
        for token in tokens:
            self.issued.pop(token, None)
            self.issued[token] = now
        for token in list(self.issued)[:-MAX_ISSUED]:
            del self.issued[token]

    @property
    def is_empty(self) -> bool:
        """Return whether nothing of this cluster exists or may exist."""
        return not (self.nodes or self.intents or self.resources)
