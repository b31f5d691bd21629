"""Launching, terminating, and changing the VMs of one cluster."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from planapply.bootstrap import MAX_SHUTDOWN_LINES, extract_node_lines
from planapply.fleet.clock import wait_until
from planapply.fleet.journal import Journal
from planapply.fleet.launch import Batch, Launcher, Listener, Outcome
from planapply.fleet.plugin_calls import SECRET_MISSING_CODE, ProviderFailed
from planapply.fleet.prices import Budget
from planapply.fleet.provider_client import ProviderClient
from planapply.fleet.rate_limit import TokenBucket
from planapply.fleet.request import avoid_choice, in_scheduler_zone, split_batches
from planapply.fleet.resources import ResourceManager
from planapply.fleet.secrets import node_secrets
from planapply.fleet.terminate import Terminator
from planapply.model.diagnostics import PlanapplyError
from planapply.model.endpoint import current_endpoint
from planapply.model.event import Event
from planapply.model.lifetimes import Lifetimes
from planapply.model.names import SCHEDULER
from planapply.model.node import VM, NodeConfig
from planapply.model.plan import ResourceDrift
from planapply.model.state import Choice, Intent, NodeRecord, Resource, State
from planapply.model.tags import cluster_tags
from planapply.provider import ErrorKind, ProviderError

T = TypeVar("T")
R = TypeVar("R")
ADDRESS_TIMEOUT = 120.0  # seconds in which a cloud must assign an address to a VM


@dataclass(frozen=True)
class LaunchSpec:
    """One node to launch."""

    name: str
    config: NodeConfig
    scheduler: str | None = None
    """Address of the scheduler to join; None for a scheduler."""


class Fleet:
    """The VMs of one cluster, while its state is locked.

    `parallel` is the maximum number of concurrent provider calls (default: the provider's limit); 0
    makes them one after the other in the calling thread. `budget` limits what is launched.
    """

    def __init__(
        self,
        client: ProviderClient,
        journal: Journal,
        *,
        on_event: Listener = lambda event: None,
        parallel: int | None = None,
        budget: Budget | None = None,
    ) -> None:
        limits, clock = client.limits, client.clock
        self.client, self.journal, self.clock, self.on_event = client, journal, clock, on_event
        self.parallel = limits.parallel if parallel is None else parallel
        self.avoided: dict[str, Choice] = {}
        """Size, zone, and market of nodes whose VM the cloud has taken back; tried last for these nodes."""
        self._launcher = Launcher(
            client,
            journal,
            TokenBucket(clock, limits.launch_rate),
            TokenBucket(clock, limits.launch_vm_rate),
            on_event,
            budget,
        )
        self._terminator = Terminator(
            client,
            journal,
            TokenBucket(clock, limits.terminate_rate),
            TokenBucket(clock, limits.terminate_vm_rate),
            on_event,
        )

    def launch(self, specs: Sequence[LaunchSpec]) -> dict[str, Outcome]:
        """Launch these nodes; return for each name its record, or the error that prevented it.

        Raises Stopped, or the store's error, after all running calls have ended.
        """
        groups: dict[tuple[object, ...], list[LaunchSpec]] = {}
        for node in specs:
            avoided = self.avoided.get(node.name)
            key = node.config.digest, node.scheduler, avoided and avoided.model_dump_json()
            groups.setdefault(key, []).append(node)
        outcomes: dict[str, Outcome] = {}
        batches: list[Batch] = []
        for group in groups.values():
            names, config = [node.name for node in group], group[0].config
            avoided = self.avoided.get(names[0])
            try:
                secrets = node_secrets(config)
            except PlanapplyError as missing:
                first = missing.diagnostics[0]
                error = ProviderError(
                    ErrorKind.REJECTED, first.summary, first.detail, code=SECRET_MISSING_CODE
                )
                outcomes.update(dict.fromkeys(names, error))
                continue
            try:
                offered = self.client.alternatives(config)
            except ProviderFailed as failure:
                outcomes.update(dict.fromkeys(names, failure.error))
                continue
            choices = self.journal.read(partial(in_scheduler_zone, offered, config))
            if avoided is not None:
                choices = avoid_choice(choices, offered, avoided)
            batches += [
                Batch(part, config, group[0].scheduler, choices, secrets=secrets)
                for part in split_batches(names, self.client.limits.batch)
            ]
        if batches:
            try:
                started = self._launcher.write_intents(batches)
            except ProviderFailed as failure:  # a price cannot be requested
                return {**outcomes, **dict.fromkeys((s.name for s in specs), failure.error)}
            try:
                for part in self._map_parallel(self._launcher.launch, started):
                    outcomes.update(part)
            finally:
                self.journal.flush()
        failed = {o.kind for o in outcomes.values() if isinstance(o, ProviderError)}
        if ErrorKind.UNAVAILABLE in failed:
            self._drop_gone_resources()
        for node in specs:
            if node.scheduler is None and isinstance(outcomes[node.name], NodeRecord):
                outcomes[node.name] = self._await_address(node.name)
        return outcomes

    def _drop_gone_resources(self) -> None:
        """Remove the ids of resources that no longer exist from the state.

        A resource that was deleted by hand may be why launches failed until the time limit. Checking
        this before each launch would cost a call each time.
        """
        if self.journal.read(lambda state: bool(state.resources)):
            with suppress(ProviderFailed):  # the launch's own error is reported
                self._resource_manager().drop_gone()

    def _await_address(self, name: str) -> Outcome:
        """Return the record of a scheduler when it has an address, which some clouds assign late."""

        def record() -> NodeRecord:
            return self.journal.read(lambda state: state.nodes[name])

        def has_address() -> bool:
            return record().private_address is not None or (
                bool(self.find_and_record()) and record().private_address is not None
            )

        if wait_until(
            self.clock, has_address, interval=self.client.limits.poll, timeout=ADDRESS_TIMEOUT
        ):
            return record()
        return ProviderError(
            ErrorKind.UNAVAILABLE,
            f"VM {record().vm} has no address after {ADDRESS_TIMEOUT:.0f} s",
            "The VM is recorded. Check it in the cloud's console, then run `planapply apply` again.",
        )

    def find_and_record(self) -> list[VM]:
        """Return every VM of this cluster that the cloud shows; record their new addresses."""
        vms = self.find()
        by_id = {vm.id: vm for vm in vms}
        changed = self.journal.read(
            lambda state: {
                name: updated
                for name, old in state.nodes.items()
                if old.vm in by_id and (updated := old.with_addresses_of(by_id[old.vm])) is not old
            }
        )
        if changed:
            self.journal.update(lambda state: state.nodes.update(changed))
        return vms

    def console(self, name: str, lines: int = 40) -> str:
        """Return the last lines that a node printed; empty if the cloud cannot show them."""
        record = self.journal.read(lambda state: state.nodes.get(name))
        if record is None or not self.client.has_console:
            return ""
        try:
            text = self.client.console(record.vm, lines + MAX_SHUTDOWN_LINES, retry=False)
        except ProviderFailed:
            return ""  # it only explains another error, which must not be hidden by this one
        return extract_node_lines(text, lines)

    def resolve_intents(self, desired: Mapping[str, str]) -> None:
        """Find out the result of every intent that an earlier process left open, and close it.

        A request is repeated only if all of its names are still `desired` (name -> config digest), its secrets
        have the same values, and no supporting resource is missing: otherwise it would be another request. In
        other cases, wait until its VMs must be visible. Raises ProviderFailed if the result is still unknown,
        and what `launch` raises.
        """
        intents = self.journal.read(lambda state: dict(state.intents))
        try:
            self._map_parallel(lambda item: self._resolve_intent(*item, desired), intents.items())
        finally:
            self.journal.flush()

    def _resolve_intent(self, token: str, intent: Intent, desired: Mapping[str, str]) -> None:
        limits = self.client.limits
        vms = self._launcher.poll_batch(token, intent, 0.0)
        if {vm.name for vm in vms} >= set(intent.names):
            self._launcher.adopt(token, intent, vms)
        elif (
            limits.tokens
            and all(desired.get(name) == intent.config for name in intent.names)
            and self.journal.read(lambda state: all(r.id for r in state.resources.values()))
            and (secrets := self._launcher.repeatable_secrets(intent)) is not None
        ):
            renewed = intent.model_copy(update={"requested_at": self.clock.time()})
            self.journal.update(lambda state: state.intents.update({token: renewed}))
            _, error = self._launcher.request_and_record(token, renewed, secrets)
            if error is not None and error.kind.may_have_succeeded:
                raise ProviderFailed(error)
        else:
            self.on_event(
                Event(
                    event="waiting",
                    names=tuple(intent.names),
                    message="for the result of an earlier request",
                )
            )
            # From now, not from `requested_at`: intents are written in advance, and clocks jump.
            vms = self._launcher.poll_batch(token, intent, limits.consistency_delay)
            self._launcher.adopt(token, intent, vms)

    def terminate(self, names: Iterable[str]) -> None:
        """Terminate these nodes, wait until their VMs are gone, and remove them from the state.

        Raises PlanapplyError with the names of nodes whose VMs are not gone in time; they stay in the
        state.
        """
        self._terminator.terminate(list(names))

    def record_endpoint(self) -> None:
        """Record in the state where its scheduler is, if the state has another endpoint."""
        if self.journal.read(lambda state: state.endpoint != current_endpoint(state)):
            self.journal.update(lambda state: setattr(state, "endpoint", current_endpoint(state)))

    def drop(self, names: Sequence[str]) -> None:
        """Remove nodes from the state whose VMs are still not shown.

        Also request their termination, because the provider may have to clean up after them.
        """
        shown = {vm.id for vm in self.find()}
        gone = self.journal.read(
            lambda state: [n for n in names if n in state.nodes and state.nodes[n].vm not in shown]
        )
        if gone:
            self._terminator.request_termination(
                self.journal.read(lambda state: [state.nodes[name].vm for name in gone])
            )
            self._terminator.drop(gone)
            self.journal.flush()

    def terminate_strays(self, ids: Sequence[str]) -> None:
        """Terminate VMs with this cluster's tags that are not in the state."""
        self._terminator.request_termination(ids)

    def retag(self, names: Sequence[str], tags: Mapping[str, str]) -> None:
        """Set the user tags of these nodes, in place, and remove all their other user tags."""
        records = self.journal.read(lambda state: [state.nodes[name] for name in names])
        removed = sorted({key for record in records for key in record.tags} - set(tags))
        self.client.retag([record.vm for record in records], tags, removed)

        def record_tags(state: State) -> None:
            for name in names:
                state.nodes[name].tags = dict(tags)

        self.journal.update(record_tags)
        self.on_event(Event(event="updated", names=tuple(names), message="tags"))

    def record_lifetimes(self, lifetimes: Lifetimes) -> None:
        """Record the lifetimes that the running scheduler has confirmed."""

        def record(state: State) -> None:
            state.nodes[SCHEDULER].lifetimes = lifetimes

        self.journal.update(record)
        self.on_event(Event(event="updated", names=(SCHEDULER,), message="lifetimes"))

    def restore_tags(self, tags: Mapping[str, Mapping[str, str]]) -> None:
        """Set planapply's own tags, by node, that another user has changed or removed."""
        groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
        for name, restored in tags.items():
            groups.setdefault(tuple(sorted(restored.items())), []).append(name)
        for items, names in groups.items():
            ids = self.journal.read(lambda state, names=names: [state.nodes[n].vm for n in names])  # type: ignore[misc]
            self.client.retag(ids, dict(items), ())

    def prepare(
        self,
        desired_resources: Mapping[str, Resource],
        tags: Mapping[str, str],
        drift: Mapping[str, ResourceDrift] = {},
    ) -> None:
        """Create or change the supporting resources that differ from `desired_resources`, or that drifted."""
        if desired_resources:
            self._resource_manager().prepare(desired_resources, tags, drift)

    def cleanup(self) -> None:
        """Remove all supporting resources."""
        if self.journal.read(lambda state: bool(state.resources)):
            self._resource_manager().cleanup()

    def _resource_manager(self) -> ResourceManager:
        return ResourceManager(self.client, self.journal, self.on_event)

    def find(self) -> list[VM]:
        """Return every VM of this cluster that the cloud shows."""
        return self.client.find(self.journal.read(cluster_tags))

    def _map_parallel(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Return all results; raise the first exception only when every call has ended."""
        if self.parallel < 1:
            return [function(item) for item in items]
        with ThreadPoolExecutor(self.parallel, thread_name_prefix="planapply") as pool:
            futures = [pool.submit(function, item) for item in items]
        return [future.result() for future in futures]
