"""Client of a provider, which repeats calls and reports their failures as PlanapplyError."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

from pydantic import ValidationError

from planapply.fleet.clock import Clock
from planapply.fleet.plugin_calls import ProviderFailed, call_plugin, report_bugs
from planapply.fleet.retry import Retrier
from planapply.fleet.throttling import ThrottlingReport
from planapply.model.diagnostics import Diagnostic, PlanapplyError
from planapply.model.end_reason import EndReason
from planapply.model.event import Event
from planapply.model.node import VM, NodeConfig, Requirements
from planapply.model.plan import ResourceDrift
from planapply.model.state import Choice, NodeRecord, Resource
from planapply.model.validation import describe_problem
from planapply.provider import (
    ErrorKind,
    LaunchRequest,
    LaunchResult,
    Limits,
    Plugin,
    Price,
    Provider,
    ProviderError,
    SupportsAllow,
    SupportsCheck,
    SupportsCheckSettings,
    SupportsChoose,
    SupportsConsole,
    SupportsEndReasons,
    SupportsInspect,
    SupportsList,
    SupportsLookup,
    SupportsNotes,
    SupportsOwnNetwork,
    SupportsPinChecks,
    SupportsPins,
    SupportsPrices,
    SupportsResources,
    SupportsRetag,
    SupportsSecrets,
    SupportsShell,
)

T = TypeVar("T")

REPEATABLE = frozenset({ErrorKind.UNKNOWN})
"""Kinds after which a call is repeated that has the same effect once and twice."""
NOT_REPEATABLE = frozenset[ErrorKind]()
NO_RETRIES = 0.0


_OTHER_CHOICE = ProviderError(
    ErrorKind.REJECTED, "the provider would choose another size or image now"
)


class _FullProvider(
    Provider,
    SupportsAllow,
    SupportsCheck,
    SupportsCheckSettings,
    SupportsChoose,
    SupportsConsole,
    SupportsEndReasons,
    SupportsInspect,
    SupportsList,
    SupportsLookup,
    SupportsNotes,
    SupportsOwnNetwork,
    SupportsPinChecks,
    SupportsPins,
    SupportsPrices,
    SupportsResources,
    SupportsRetag,
    SupportsSecrets,
    SupportsShell,
    Protocol,
):
    """Provider with every capability, for the type checker."""


class ProviderClient:
    """The methods of a provider, with retries and with errors that a user can read.

    Every method raises ProviderFailed if the provider fails, and Stopped if the clock is stopped.
    A call is repeated while the provider is throttled or unavailable, for at most `retry_limit`
    seconds; a call that has the same effect once and twice is also repeated after a lost answer.
    `origin` names a plug-in that is not planapply's own: any other exception that it raises is
    reported as a bug of that plug-in. `costs_money` is whether its VMs do. `on_event` gets an event
    from time to time while the provider is throttled or unavailable.
    """

    def __init__(
        self,
        provider: Provider,
        clock: Clock,
        *,
        origin: str = "",
        retry_limit: float = 120.0,
        costs_money: bool = True,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self._provider = cast(_FullProvider, provider)
        self._origin = origin
        self._throttling = ThrottlingReport(clock, on_event)
        self._retrier = Retrier(clock, retry_limit)
        self.clock, self.costs_money = clock, costs_money

    @property
    def limits(self) -> Limits:
        """Limits that the fleet must keep to."""
        return self._provider.limits

    @property
    def can_retag(self) -> bool:
        """Whether tags can be changed in place."""
        return isinstance(self._provider, SupportsRetag)

    @property
    def has_resources(self) -> bool:
        """Whether clusters need resources other than VMs."""
        return isinstance(self._provider, SupportsResources)

    @property
    def has_prices(self) -> bool:
        """Whether the provider knows prices."""
        return isinstance(self._provider, SupportsPrices)

    @property
    def can_choose(self) -> bool:
        """Whether the provider can choose sizes."""
        return isinstance(self._provider, SupportsChoose)

    @property
    def has_pins(self) -> bool:
        """Whether the provider has defaults that change over time."""
        return isinstance(self._provider, SupportsPins)

    @property
    def can_allow(self) -> bool:
        """Whether the provider can open the cluster's firewall for another network."""
        return isinstance(self._provider, SupportsAllow)

    @property
    def has_shell(self) -> bool:
        """Whether a user can log in to a VM."""
        return isinstance(self._provider, SupportsShell)

    @property
    def has_console(self) -> bool:
        """Whether the output of a VM can be read."""
        return isinstance(self._provider, SupportsConsole)

    @property
    def has_end_reasons(self) -> bool:
        """Whether the provider knows why VMs have ended."""
        return isinstance(self._provider, SupportsEndReasons)

    @property
    def has_secrets(self) -> bool:
        """Whether the secrets of a VM can be read back."""
        return isinstance(self._provider, SupportsSecrets)

    @property
    def can_list(self) -> bool:
        """Whether the VMs of all clusters can be listed."""
        return isinstance(self._provider, SupportsList)

    def identity(self) -> dict[str, str]:
        """Return the account, region, … that the provider works on."""
        return self._call("identity", self._provider.identity)

    def alternatives(self, config: NodeConfig) -> Sequence[Choice]:
        """Return size, zone and market in the order in which to try them; at least one."""
        return self._call("alternatives", lambda: self._provider.alternatives(config))

    def launch(
        self, request: LaunchRequest, before_attempt: Callable[[], None] = lambda: None
    ) -> LaunchResult:
        """Launch VMs, calling `before_attempt` before each attempt.

        Repeated after a lost answer only if the cloud keeps launches idempotent by their token.
        Without that, and in general if `is_response_lost`, look for the batch's tag.
        """
        return self._call(
            "launch",
            lambda: self._provider.launch(request),
            repeat_after=REPEATABLE if self.limits.tokens else NOT_REPEATABLE,
            before_attempt=before_attempt,
        )

    def find(self, tags: Mapping[str, str]) -> list[VM]:
        """Return every VM that carries all of `tags` and is not terminated."""
        return self._call("find", lambda: self._provider.find(tags))

    def lookup(self, ids: Sequence[str]) -> Mapping[str, VM | None]:
        """Return VMs by ID, None for a terminated one; nothing without the capability."""
        supported = ids and isinstance(self._provider, SupportsLookup)
        return self._call("lookup", lambda: self._provider.lookup(ids)) if supported else {}

    def end_reasons(self, ids: Sequence[str]) -> Mapping[str, EndReason]:
        """Return why these VMs have ended, as far as the cloud knows; raises without the capability."""

        def call() -> dict[str, EndReason]:
            return {id: EndReason(reason) for id, reason in self._provider.end_reasons(ids).items()}

        return self._call("end_reasons", call, limit=NO_RETRIES)

    def terminate(self, ids: Sequence[str]) -> Sequence[str]:
        """Terminate VMs; return the ids that the cloud does not know. Returns when accepted."""
        return self._call("terminate", lambda: self._provider.terminate(ids))

    def retag(self, ids: Sequence[str], tags: Mapping[str, str], removed: Sequence[str]) -> None:
        """Set `tags` on these VMs and remove the keys in `removed`."""
        self._call("retag", lambda: self._provider.retag(ids, tags, removed))

    def required_resources(self, cluster: str, config: NodeConfig) -> dict[str, Resource]:
        """Return the resources that a cluster needs, by name; none without that capability."""
        return (
            self._call(
                "required_resources", lambda: self._provider.required_resources(cluster, config)
            )
            if self.has_resources
            else {}
        )

    def prepare(self, name: str, resource: Resource, tags: Mapping[str, str]) -> Resource:
        """Create a resource, or return the one that an earlier attempt created."""
        return self._call("prepare", lambda: self._provider.prepare(name, resource, tags))

    def find_resources(self, tags: Mapping[str, str]) -> dict[str, Resource]:
        """Return the resources that exist and carry all of `tags`; none without the capability."""
        return (
            self._call("find_resources", lambda: self._provider.find_resources(tags))
            if self.has_resources
            else {}
        )

    def inspect(self, resource: Resource, tags: Mapping[str, str]) -> ResourceDrift | None:
        """Return how a resource differs from what was created; None without the capability."""
        supported = isinstance(self._provider, SupportsInspect)
        return (
            self._call("inspect", lambda: self._provider.inspect(resource, tags))
            if supported
            else None
        )

    def cleanup(
        self,
        resource: Resource,
        *,
        timeout: float,
        on_error: Callable[[ProviderError], None] = lambda error: None,
    ) -> None:
        """Remove a resource, trying for `timeout` seconds; `on_error` gets each attempt's error."""
        self._call(
            "cleanup", lambda: self._provider.cleanup(resource), limit=timeout, on_error=on_error
        )

    def price(self, size: str | None, zone: str | None, spot: bool) -> Price:
        """Return the price of one VM."""
        return self._call("price", lambda: self._provider.price(size, zone, spot))

    def choose(self, requirements: Requirements) -> list[str]:
        """Return the cheapest sizes that fit, cheapest first."""
        return self._call("choose", lambda: self._provider.choose(requirements))

    def pins(self, config: NodeConfig) -> dict[str, Any]:
        """Return values for the node settings that `config` leaves open, such as `image`."""
        return self._call("pins", lambda: self._provider.pins(config))

    def check_choice(
        self, requirements: Requirements, sizes: Sequence[str]
    ) -> Sequence[ProviderError]:
        """Return why these sizes cannot be the provider's choice for the requirements."""
        if not isinstance(self._provider, SupportsPinChecks):
            return () if self.choose(requirements) == [*sizes] else (_OTHER_CHOICE,)
        return self._call("check_choice", lambda: self._provider.check_choice(requirements, sizes))

    def check_pins(self, config: NodeConfig, values: Mapping[str, Any]) -> Sequence[ProviderError]:
        """Return why these values cannot be the provider's defaults for `config`."""
        if not isinstance(self._provider, SupportsPinChecks):
            return () if self.pins(config) == dict(values) else (_OTHER_CHOICE,)
        return self._call("check_pins", lambda: self._provider.check_pins(config, values))

    def check(self, configs: Sequence[NodeConfig]) -> Sequence[ProviderError]:
        """Return everything that is wrong with VMs of these configs, as far as it is known."""
        supported = isinstance(self._provider, SupportsCheck)
        return self._call("check", lambda: self._provider.check(configs)) if supported else ()

    def check_settings(self) -> Sequence[ProviderError]:
        """Return errors in the settings that the next launch would meet."""
        supported = isinstance(self._provider, SupportsCheckSettings)
        return self._call("check_settings", self._provider.check_settings) if supported else ()

    def notes(self, configs: Sequence[NodeConfig]) -> Sequence[Diagnostic]:
        """Return warnings about VMs of these configs."""
        supported = isinstance(self._provider, SupportsNotes)
        return self._call("notes", lambda: self._provider.notes(configs)) if supported else ()

    def allow(self, resource: Resource, network: str | None) -> Resource:
        """Allow a network (None: this machine) to reach the scheduler; return the new resource."""
        return self._call("allow", lambda: self._provider.allow(resource, network))

    def disallow(self, resource: Resource, network: str | None) -> Resource:
        """Remove a network that `allow` added (None: this machine); return the new resource."""
        return self._call("disallow", lambda: self._provider.disallow(resource, network))

    def own_network(self) -> str | None:
        """Return the address of this machine as a network; None if the provider cannot detect it."""
        supported = isinstance(self._provider, SupportsOwnNetwork)
        return self._call("own_network", self._provider.own_network) if supported else None

    def shell(self, record: NodeRecord, config: NodeConfig, user: str | None) -> Sequence[str]:
        """Return the command that logs in to a node."""
        return self._call("shell", lambda: self._provider.shell(record, config, user))

    def console(self, id: str, lines: int, *, retry: bool = True) -> str:
        """Return the last `lines` lines that a VM printed."""
        return self._call(
            "console",
            lambda: self._provider.console(id, lines),
            limit=None if retry else NO_RETRIES,
        )

    def secrets(self, id: str) -> str:
        """Return the text that a VM was given at boot, with the cluster's certificate and key."""
        return self._call("secrets", lambda: self._provider.secrets(id))

    def list_vms(self) -> list[VM]:
        """Return the VMs of all clusters of this account."""
        return self._call("list_vms", self._provider.list_vms)

    def _call(
        self,
        method: str,
        call: Callable[[], T],
        *,
        repeat_after: frozenset[ErrorKind] = REPEATABLE,
        limit: float | None = None,
        before_attempt: Callable[[], None] = lambda: None,
        on_error: Callable[[ProviderError], None] | None = None,
    ) -> T:
        """Return the result of a call; `on_error` replaces the report that the cloud is not available."""
        is_response_lost = False

        def attempt() -> T:
            nonlocal is_response_lost
            before_attempt()
            try:
                return report_bugs(self._origin, method, call)
            except ProviderError as error:
                is_response_lost = is_response_lost or error.kind is ErrorKind.UNKNOWN
                (self._throttling.record if on_error is None else on_error)(error)
                raise

        try:
            return self._retrier.call(attempt, retry_kinds=repeat_after, limit=limit)
        except ProviderError as error:
            raise ProviderFailed(error, is_response_lost) from error


def connect_provider(
    plugin: Plugin,
    values: Mapping[str, Any],
    clock: Clock,
    on_event: Callable[[Event], None] = lambda event: None,
) -> ProviderClient:
    """Return a client of the provider with these settings, which may come from a state.

    Raises PlanapplyError if the settings are invalid or the provider refuses them.
    """
    try:
        # As JSON, because a strict model accepts a list as a tuple only there.
        settings = plugin.settings.model_validate_json(json.dumps(dict(values)))
    except ValidationError as error:
        first = error.errors()[0]
        raise PlanapplyError(
            f"invalid settings for the provider {plugin.name!r}: "
            f"{'.'.join(map(str, first['loc']))}: {describe_problem(first)}",
            "The state has the settings of the last apply, perhaps by another version of the provider. "
            "Install that version, or destroy the cluster with it.",
        ) from error
    provider = call_plugin(plugin, "connect", lambda: plugin.connect(settings))
    return ProviderClient(
        provider,
        clock,
        origin=plugin.origin,
        costs_money=plugin.costs_money,
        on_event=on_event,
    )
