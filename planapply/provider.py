"""The contract between planapply and a provider plug-in.

A provider's methods block, are short, and work on batches; they never sleep, poll, or retry, because
the fleet does. They raise ProviderError; any other exception is reported as a bug of the plug-in.
A plug-in is a `Plugin` object that an entry point of the group `planapply.providers` names; importing
it must not import a cloud SDK.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel

from planapply.model.diagnostics import Diagnostic
from planapply.model.end_reason import EndReason
from planapply.model.node import VM, NodeConfig, Requirements
from planapply.model.plan import ResourceDrift
from planapply.model.provider_error import ErrorKind as ErrorKind
from planapply.model.provider_error import ProviderError as ProviderError
from planapply.model.state import Choice, NodeRecord, Resource


@dataclass(frozen=True)
class Boot:
    """Process of one node, for a provider that starts processes instead of machines."""

    argv: tuple[str, ...]
    """Arguments of the Python interpreter: `-m distributed.cli.dask_spec …`, or for a scheduler the code that
    runs planapply's plugin, one of `files`, with the same arguments.

    The provider replaces `{host}` (the address on which the process listens), `{port}` (that of the
    scheduler), and `{nthreads}` (the machine's CPUs divided by the node's processes).
    """
    env: Mapping[str, str]
    """Environment variables. The provider replaces a variable's reference to itself (`$NAME`) by its
    current value."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Relative name -> content, to be written with mode 0600 in the folder of the process; may contain
    secrets.
    """
    file_env: Mapping[str, str] = field(default_factory=dict)
    """Environment variable -> name in `files`; the variable's value is that file's path."""
    secret_env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """More environment variables, with secret values, in which nothing is replaced. They must be neither on a
    command line nor in a file that another user can read."""


@dataclass(frozen=True)
class LaunchRequest:
    """A request for N identical VMs.

    The VM with index i (from 0) becomes node `names[i]`. It must have its tags from its creation on.
    """

    token: str
    """Idempotency token of at most 64 ASCII characters; also the value of the tag
    `planapply:batch`."""
    names: tuple[str, ...]
    config: NodeConfig
    choice: Choice
    tags: Mapping[str, str]
    """All tags, the user's and planapply's."""
    boots: tuple[Boot, ...]
    """One for each name, for a provider that starts processes; empty with `user_data`."""
    user_data: bytes = field(default=b"", repr=False)
    """User data for all VMs of the batch, compressed by gzip: a VM finds its name by its index in the
    batch, which is EC2's `ami-launch-index`. Secret: it may contain a TLS key, and secrets of the spec.
    """
    resources: Mapping[str, Resource] = field(default_factory=dict)
    """Resources that `prepare` returned, by name."""


@dataclass(frozen=True)
class LaunchResult:
    """VMs that exist for a token; if there are fewer than requested, `shortfall` says why."""

    vms: tuple[VM, ...]
    shortfall: ProviderError | None = None


@dataclass(frozen=True)
class Limits:
    """Limits of the cloud that the fleet obeys, and properties of the cloud that it relies on."""

    batch: int = 100
    """Maximum number of VMs in one call of `launch`."""
    terminate_batch: int = 1000
    """Maximum number of VMs in one call of `terminate`."""
    parallel: int = 4
    """Maximum number of concurrent calls."""
    tokens: bool = True
    """Whether a second launch with the same token returns the same VMs. If not, the fleet resolves a
    lost answer with `find`.
    """
    consistency_delay: float = 60.0
    """Seconds after a launch after which `find` returns every VM that it created."""
    poll: float = 2.0
    """Seconds between two calls of `find` while the fleet waits."""
    launch_rate: tuple[float, float] | None = None
    """Token bucket for calls of `launch`: size, refill per second. None: no limit."""
    launch_vm_rate: tuple[float, float] | None = None
    """Token bucket for VMs launched: size, refill per second."""
    terminate_rate: tuple[float, float] | None = None
    """Token bucket for calls of `terminate`: size, refill per second."""
    terminate_vm_rate: tuple[float, float] | None = None
    """Token bucket for VMs terminated: size, refill per second."""
    user_data: int = 0
    """Maximum size of compressed user data in bytes; 0: the provider uses `LaunchRequest.boots`."""


class Provider(Protocol):
    """One account and region of one cloud."""

    @property
    def limits(self) -> Limits:
        """Limits that the fleet obeys."""

    def identity(self) -> dict[str, str]:
        """Return account, region, …; planapply refuses a state that was made with others."""

    def alternatives(self, config: NodeConfig) -> Sequence[Choice]:
        """Return choices of size, zone, and market in the order in which to try them; at least one."""

    def launch(self, request: LaunchRequest) -> LaunchResult:
        """Launch VMs, idempotently by `request.token`; raises ProviderError if it launches none."""

    def find(self, tags: Mapping[str, str]) -> list[VM]:
        """Return every VM that has all of `tags` and is not terminated.

        Set `VM.token` if the cloud keeps the token of a launch where no tag can change it.
        """

    def terminate(self, ids: Sequence[str]) -> Sequence[str]:
        """Request the termination of VMs, without waiting for it.

        Return the ids that the cloud does not know. Such a VM is terminated, which is a success, or
        too new to be visible; the fleet finds out which.
        """


@runtime_checkable
class SupportsRetag(Protocol):
    """A provider that can change tags in place."""

    def retag(self, ids: Sequence[str], tags: Mapping[str, str], removed: Sequence[str]) -> None:
        """Set `tags` on these VMs and remove the keys in `removed`."""


@runtime_checkable
class SupportsLookup(Protocol):
    """A provider that can find VMs by their IDs: also without tags, and for a while after their termination."""

    def lookup(self, ids: Sequence[str]) -> Mapping[str, VM | None]:
        """Return the VMs with these IDs; None for a VM that the cloud reports as terminated.

        Omit an ID that the cloud does not know: the VM may be too new to be visible.
        """


@runtime_checkable
class SupportsEndReasons(Protocol):
    """A provider that knows why VMs have ended."""

    def end_reasons(self, ids: Sequence[str]) -> Mapping[str, EndReason]:
        """Return why these VMs have ended, by the cloud's own records; omit a VM that it does not know.

        POWERED_OFF: the VM has shut itself down; if the provider has `console`, planapply looks for the reason
        in the output of some of these VMs.
        """


@runtime_checkable
class SupportsResources(Protocol):
    """A provider that needs resources other than VMs, such as a security group."""

    def required_resources(self, cluster: str, config: NodeConfig) -> dict[str, Resource]:
        """Return the resources that a cluster needs, by name, with ids None, for the plan."""

    def prepare(self, name: str, resource: Resource, tags: Mapping[str, str]) -> Resource:
        """Create or change a resource, and return it with its id; idempotent.

        Find one that an earlier attempt created by planapply's own tags: the user's may have changed
        since.
        """

    def find_resources(self, tags: Mapping[str, str]) -> dict[str, Resource]:
        """Return the resources that exist and have all of `tags`, by name."""

    def cleanup(self, resource: Resource) -> None:
        """Remove a resource; one that does not exist is a success, one in use is UNAVAILABLE."""


@runtime_checkable
class SupportsInspect(Protocol):
    """A provider that can compare supporting resources with what it created."""

    def inspect(self, resource: Resource, tags: Mapping[str, str]) -> ResourceDrift | None:
        """Return how an existing resource differs from what `prepare` would make of it; None if it does not.

        `tags` are planapply's own. Ignore what others may add without an effect on the cluster, such as tags.
        """


@dataclass(frozen=True)
class Price:
    """Price of one VM in USD per hour; None if it is unknown."""

    usd_per_hour: float | None
    source: str = ""


@runtime_checkable
class SupportsPrices(Protocol):
    """A provider that knows the prices of its VMs."""

    def price(self, size: str | None, zone: str | None, spot: bool) -> Price:
        """Return the price of a VM; never with a request that costs money, and cached."""


@runtime_checkable
class SupportsChoose(Protocol):
    """A provider that can choose sizes; planapply keeps its choice in the state."""

    def choose(self, requirements: Requirements) -> list[str]:
        """Return the cheapest sizes that fit, cheapest first; without requirements, the default size.

        Raises ProviderError of kind REJECTED if no size fits.
        """


@runtime_checkable
class SupportsPins(Protocol):
    """A provider with defaults that change over time, such as the current image.

    planapply resolves them once and keeps them in the state.
    """

    def pins(self, config: NodeConfig) -> dict[str, Any]:
        """Return values for node settings that `config` lacks, such as `image`."""


@runtime_checkable
class SupportsPinChecks(Protocol):
    """A provider that can check choices in a saved plan, which another person may have edited.

    Without this capability, a saved plan is stale as soon as the provider would choose otherwise.
    """

    def check_choice(
        self, requirements: Requirements, sizes: Sequence[str]
    ) -> Sequence[ProviderError]:
        """Return why `choose` could never have returned these sizes; empty if it could."""

    def check_pins(self, config: NodeConfig, values: Mapping[str, Any]) -> Sequence[ProviderError]:
        """Return why `pins` could never have returned these values, such as the image of a stranger."""


@runtime_checkable
class SupportsCheck(Protocol):
    """A provider that can check configurations before anything is launched."""

    def check(self, configs: Sequence[NodeConfig]) -> Sequence[ProviderError]:
        """Return all problems with VMs of these configurations; empty if none is known."""


@runtime_checkable
class SupportsCheckSettings(Protocol):
    """A provider that can check its settings if nothing is to be launched."""

    def check_settings(self) -> Sequence[ProviderError]:
        """Return errors in the settings that the next launch would meet, such as a deleted subnet."""


@runtime_checkable
class SupportsNotes(Protocol):
    """A provider that lacks something that others support, about which a plan warns."""

    def notes(self, configs: Sequence[NodeConfig]) -> Sequence[Diagnostic]:
        """Return warnings about VMs of these configurations."""


@runtime_checkable
class SupportsAllow(Protocol):
    """A provider with a resource that decides which networks can reach the scheduler."""

    def allow(self, resource: Resource, network: str | None) -> Resource:
        """Allow one more network, or with None this machine; return the changed resource.

        Return a resource that no longer exists without its id: `prepare` creates it again.
        """

    def disallow(self, resource: Resource, network: str | None) -> Resource:
        """Remove a network that `allow` added; return the changed resource, as `allow` does.

        Raises ProviderError of kind REJECTED if `allow` did not add it.
        """


@runtime_checkable
class SupportsOwnNetwork(Protocol):
    """A provider that can detect the address from which the cloud sees this machine."""

    def own_network(self) -> str:
        """Return the address as a network, such as `203.0.113.7/32`; detect it only once."""


@runtime_checkable
class SupportsShell(Protocol):
    """A provider that supports logging in to its VMs."""

    def shell(self, record: NodeRecord, config: NodeConfig, user: str | None) -> Sequence[str]:
        """Return the command that logs in, such as `ssh admin@203.0.113.7`.

        `user` replaces the image's default user. Raises ProviderError of kind REJECTED if the VM
        cannot be reached.
        """


@runtime_checkable
class SupportsConsole(Protocol):
    """A provider that can return the console output of a VM."""

    def console(self, id: str, lines: int) -> str:
        """Return the last `lines` lines; empty if there is none yet.

        Includes the output of a terminated VM if the cloud keeps it.
        """


@runtime_checkable
class SupportsSecrets(Protocol):
    """A provider that can read back the user data of a VM, to recover a lost state."""

    def secrets(self, id: str) -> str:
        """Return text that contains the cluster's certificate and key as PEM, or an empty string."""


@runtime_checkable
class SupportsList(Protocol):
    """A provider that can list the VMs of all clusters in this account."""

    def list_vms(self) -> list[VM]:
        """Return the VMs of all clusters."""


@dataclass(frozen=True)
class Plugin:
    """A provider plug-in, as an entry point names it."""

    name: str
    summary: str
    """Description in one line, for `planapply providers`."""
    settings: type[BaseModel]
    """Model of the spec's `[provider]`. A field whose change replaces VMs has
    `json_schema_extra={"effect": "replacement"}`; a field that cannot change while the cluster exists
    has `"refusal"`."""
    connect: Callable[[Any], Provider]
    """Create the provider from a validated `settings` object: import the SDK, send no request."""
    security: Literal["tls", "none"] = "tls"
    """Default of `cluster.security`."""
    ignored_settings: frozenset[str] = frozenset()
    """Node settings that the provider ignores; planapply warns about them."""
    node_settings: frozenset[str] = frozenset()
    """Names of its settings that nodes can also have; its model validates them there, too."""
    starter: str | Callable[[Mapping[str, Any]], str] = ""
    """The provider's part of the spec that `init` writes, as TOML with comments; or a function that
    returns it for the settings given with --set."""
    costs_money: bool = True
    """Whether VMs run in a cloud that bills for them; otherwise `max_cost` is ignored."""
    origin: str = ""
    """Set by planapply for a plug-in that is not its own: the entry point and package, for a bug
    report."""
