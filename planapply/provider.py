"""The contract between planapply and a provider plug-in.

A provider's calls are blocking, short and batched; they never sleep, poll or retry: the fleet does.
They fail with a ProviderError; any other exception is told as a bug of the plug-in.
A plug-in is a `Plugin` object that an entry point of the group `planapply.providers` names;
importing it must import no cloud SDK.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel

from planapply.model.diagnostics import Diagnostic
from planapply.model.node import VM, NodeConfig, Requirements
from planapply.model.state import Choice, NodeRecord, Resource


class ErrorKind(StrEnum):
    """What a failure means for the fleet."""

    THROTTLED = "throttled"
    """Nothing was done; ask again later."""
    UNAVAILABLE = "unavailable"
    """Nothing was done; ask again later."""
    CAPACITY = "capacity"
    """The cloud has no more of it here; try the next size, zone or market."""
    QUOTA = "quota"
    """The account may not have more of it; tell the user."""
    UNAUTHORIZED = "unauthorized"
    """Tell the user."""
    REJECTED = "rejected"
    """The request itself is wrong; tell the user."""
    TOKEN_SPENT = "spent"
    """The token's VMs have ended, or it was used for another request: only a new one can work."""
    UNKNOWN = "unknown"
    """The answer was lost: it may have been done. Ask again with the same token, look for the
    batch.
    """


class ProviderError(Exception):
    """Failure of a provider call that the provider understands.

    `summary` states the cause and `detail` what to do, in whole sentences; neither may contain a
    secret. `code` is the cloud's own error code, such as `InsufficientInstanceCapacity`, or one
    that the provider defines; empty if there is none. Callers compare `kind` and `code`, never the
    texts.
    """

    def __init__(self, kind: ErrorKind, summary: str, detail: str = "", *, code: str = "") -> None:
        self.kind, self.summary, self.detail, self.code = kind, summary, detail, code
        super().__init__(f"{summary}\n{detail}".rstrip("\n"))


class PluginBug(ProviderError):
    """What a plug-in should not have raised: it may have done what was asked, and will hardly do
    better when asked again. planapply makes it of any other exception.
    """

    def __init__(self, summary: str) -> None:
        super().__init__(
            ErrorKind.UNKNOWN, summary, "This is a bug in that package: tell those who make it."
        )


@dataclass(frozen=True)
class Boot:
    """What one node runs, for a provider that starts processes rather than machines."""

    argv: tuple[str, ...]
    """After the Python interpreter: `-m distributed.cli.dask_spec …`.

    The provider puts values in place of `{host}` and `{port}` (where the scheduler listens) and
    `{nthreads}` (the machine's CPUs divided by the node's processes).
    """
    env: Mapping[str, str]
    """In place of `{folder}` comes the one in which `files` are."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Relative name -> content, to be written with mode 0600 where the process starts; may be
    secret.
    """


@dataclass(frozen=True)
class LaunchRequest:
    """N identical VMs.

    The VM at place i (from 0) becomes node `names[i]`. Its tags must be on it from its first
    moment.
    """

    token: str
    """At most 64 ASCII characters; also the value of the tag `planapply:batch`."""
    names: tuple[str, ...]
    config: NodeConfig
    choice: Choice
    tags: Mapping[str, str]
    """All of them, the user's and planapply's."""
    boots: tuple[Boot, ...]
    """One for each name; processes instead of machines. Empty where there is user data."""
    user_data: bytes = b""
    """One for all, compressed by gzip: the VM finds its own name by its place in the batch, which
    is EC2's `ami-launch-index`. Secret: it may hold a TLS key.
    """
    resources: Mapping[str, Resource] = field(default_factory=dict)
    """What `prepare` made."""


@dataclass(frozen=True)
class LaunchResult:
    """The VMs that exist now for this token, and, when they are fewer than asked, why."""

    vms: tuple[VM, ...]
    shortfall: ProviderError | None = None


@dataclass(frozen=True)
class Limits:
    """What the fleet must keep to, and what the cloud promises."""

    batch: int = 100
    """The most VMs that one `launch` may ask for."""
    terminate_batch: int = 1000
    parallel: int = 4
    """The most calls at one time."""
    tokens: bool = True
    """Whether asking again with a token gives the same VMs. Without: a lost answer is settled by
    `find`.
    """
    consistency_delay: float = 60.0
    """Seconds after which `find` shows every VM that was asked for, or it does not exist."""
    poll: float = 2.0
    """Seconds between looks at what exists."""
    launch_rate: tuple[float, float] | None = None
    """Request bucket of `launch`: size, refill a second. None: no limit."""
    launch_vm_rate: tuple[float, float] | None = None
    """Resource bucket of `launch`: VMs, refill a second."""
    terminate_rate: tuple[float, float] | None = None
    terminate_vm_rate: tuple[float, float] | None = None
    user_data: int = 0
    """The most bytes of user data; 0: it uses `LaunchRequest.boots`."""


class Provider(Protocol):
    """One account and region of one cloud."""

    @property
    def limits(self) -> Limits:
        """What the fleet must keep to."""

    def identity(self) -> dict[str, str]:
        """Whose cloud this is (account, region, …): a state of another one must not be touched."""

    def alternatives(self, config: NodeConfig) -> Sequence[Choice]:
        """Size, zone and market in the order they are to be tried; at least one."""

    def launch(self, request: LaunchRequest) -> LaunchResult:
        """Ask for VMs, idempotently by `request.token`; raises ProviderError if it gets none."""

    def find(self, tags: Mapping[str, str]) -> list[VM]:
        """Every VM that carries all of `tags` and is not terminated."""

    def terminate(self, ids: Sequence[str]) -> Sequence[str]:
        """End VMs; returns when accepted, not when ended.

        Gives those ids that the cloud does not know: gone, which is a success, or too young to be
        seen,
        which only the fleet can tell apart.
        """


@runtime_checkable
class SupportsRetag(Protocol):
    """A provider that can change tags in place."""

    def retag(self, ids: Sequence[str], tags: Mapping[str, str], removed: Sequence[str]) -> None:
        """Set `tags` on these VMs and take the keys in `removed` off."""


@runtime_checkable
class SupportsResources(Protocol):
    """A provider that needs something beside VMs, such as a security group."""

    def required_resources(self, cluster: str, config: NodeConfig) -> dict[str, Resource]:
        """What the cluster needs, by name, with ids None: for the plan."""

    def prepare(self, name: str, resource: Resource, tags: Mapping[str, str]) -> Resource:
        """Make it, or find the one that an earlier try made; idempotent.

        It is found by planapply's own tags: the user's may have changed in between.
        """

    def find_resources(self, tags: Mapping[str, str]) -> dict[str, Resource]:
        """Those that exist and carry all of `tags`."""

    def cleanup(self, resource: Resource) -> None:
        """Remove it; gone is success, in use is `unavailable`."""


@dataclass(frozen=True)
class Price:
    """USD an hour of one VM; None is unknown, not free."""

    usd_per_hour: float | None
    source: str = ""


@runtime_checkable
class SupportsPrices(Protocol):
    """A provider that knows what its VMs cost."""

    def price(self, size: str | None, zone: str | None, spot: bool) -> Price:
        """Without a call that costs money; cheap to ask for again."""


@runtime_checkable
class SupportsChoose(Protocol):
    """A provider that can pick for the user; what it picks is pinned in the state."""

    def choose(self, requirements: Requirements) -> list[str]:
        """The cheapest sizes that fit, cheapest first; raises a rejected ProviderError for none.

        With no requirement at all, the default size.
        """


@runtime_checkable
class SupportsPins(Protocol):
    """A provider whose defaults move, such as a current image: resolved once, kept in the state."""

    def pins(self, config: NodeConfig) -> dict[str, Any]:
        """Node settings that `config` leaves open, such as `image`; they become part of it."""


@runtime_checkable
class SupportsCheck(Protocol):
    """A provider that can tell before it launches anything that something can't be had."""

    def check(self, configs: Sequence[NodeConfig]) -> Sequence[ProviderError]:
        """All that is wrong with VMs of these configs; empty where nothing is known to be."""


@runtime_checkable
class SupportsNotes(Protocol):
    """A provider that can't do all that others can: a plan says so before anything is launched."""

    def notes(self, configs: Sequence[NodeConfig]) -> Sequence[Diagnostic]:
        """Warnings about VMs of these configs."""


@runtime_checkable
class SupportsAllow(Protocol):
    """A provider that keeps a resource through which networks reach the scheduler."""

    def allow(self, resource: Resource, network: str | None) -> Resource:
        """Let one more network in, None for this machine; the resource as it is then.

        One that somebody has removed comes back without its id: `prepare` makes it again.
        """


@runtime_checkable
class SupportsShell(Protocol):
    """A provider whose VMs one can log in to."""

    def shell(self, record: NodeRecord, config: NodeConfig, user: str | None) -> Sequence[str]:
        """The command that logs in, such as `ssh admin@203.0.113.7`; `user` in place of the image's
        own. Raises a rejected ProviderError where there is no way.
        """


@runtime_checkable
class SupportsConsole(Protocol):
    """A provider that can show what a VM printed."""

    def console(self, id: str, lines: int) -> str:
        """The last `lines` lines; empty when there is nothing yet. Works for an ended VM where the
        cloud keeps it.
        """


@runtime_checkable
class SupportsSecrets(Protocol):
    """A provider that can give back what it was told to put on a VM, for a state that is lost."""

    def secrets(self, id: str) -> str:
        """Text in which the cluster's certificate and key stand as PEM, or an empty one."""


@runtime_checkable
class SupportsList(Protocol):
    """A provider that can show every VM of planapply's in this account."""

    def list_vms(self) -> list[VM]:
        """Of any cluster."""


@dataclass(frozen=True)
class Plugin:
    """What an entry point names."""

    name: str
    summary: str
    """One line, for `planapply providers`."""
    settings: type[BaseModel]
    """The model of the spec's `[provider]`. A field whose change needs other VMs has
    `json_schema_extra={"effect": "replacement"}`, one that can't change under a living cluster
    `"refusal"`."""
    connect: Callable[[Any], Provider]
    """From a validated `settings` object; imports the SDK, asks nothing of the cloud."""
    security: Literal["tls", "none"] = "tls"
    """The default of `cluster.security`."""
    ignored_settings: frozenset[str] = frozenset()
    """Node settings that mean nothing to it; the user is warned."""
    node_settings: frozenset[str] = frozenset()
    """Settings of its own that a node has too: there, too, it is its model that checks them."""
    starter: str | Callable[[Mapping[str, Any]], str] = ""
    """The provider's part of the spec that `init` writes, TOML with comments; or what makes it from
    the settings that the user gave with --set."""
