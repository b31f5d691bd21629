"""What is asked of a provider: in batches, side by side, with the state one step ahead."""

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
from planapply.fleet.provider_client import ProviderClient, ProviderFailed
from planapply.fleet.rate_limit import TokenBucket
from planapply.fleet.request import cluster_tags, in_scheduler_zone, split_batches
from planapply.fleet.resources import ResourceManager
from planapply.fleet.terminate import Terminator
from planapply.model.endpoint import current_endpoint
from planapply.model.event import Event
from planapply.model.node import VM, NodeConfig
from planapply.model.state import Intent, NodeRecord, Resource, State
from planapply.provider import ErrorKind, ProviderError

T = TypeVar("T")
R = TypeVar("R")
ADDRESS_TIMEOUT = 120.0  # seconds that a cloud may take to give a VM its address


@dataclass(frozen=True)
class LaunchSpec:
    """One node to launch."""

    name: str
    config: NodeConfig
    scheduler: str | None = None
    """The address that it is told; None for a scheduler."""


class Fleet:
    """The VMs of one cluster, while its state is locked.

    `parallel` is the most provider calls at one time (default: the provider's limit); 0 makes them
    one after the other in the caller's thread.
    """

    def __init__(
        self,
        client: ProviderClient,
        journal: Journal,
        *,
        on_event: Listener = lambda event: None,
        parallel: int | None = None,
    ) -> None:
        limits, clock = client.limits, client.clock
        self.client, self.journal, self.clock, self.on_event = client, journal, clock, on_event
        self.parallel = limits.parallel if parallel is None else parallel
        self._launcher = Launcher(
            client,
            journal,
            TokenBucket(clock, limits.launch_rate),
            TokenBucket(clock, limits.launch_vm_rate),
            on_event,
        )
        self._terminator = Terminator(
            client,
            journal,
            TokenBucket(clock, limits.terminate_rate),
            TokenBucket(clock, limits.terminate_vm_rate),
            on_event,
        )

    def launch(self, specs: Sequence[LaunchSpec]) -> dict[str, Outcome]:
        """Launch these nodes; each name's outcome is its record, or the error that it ended with.

        Raises Stopped, or what the store raised, after all that was asked has answered.
        """
        groups: dict[tuple[str, str | None], list[LaunchSpec]] = {}
        for node in specs:
            groups.setdefault((node.config.digest, node.scheduler), []).append(node)
        outcomes: dict[str, Outcome] = {}
        batches: list[Batch] = []
        for group in groups.values():
            names, config = [node.name for node in group], group[0].config
            try:
                offered = self.client.alternatives(config)
            except ProviderFailed as failure:
                outcomes.update(dict.fromkeys(names, failure.error))
                continue
            choices = self.journal.read(partial(in_scheduler_zone, offered, config))
            batches += [
                Batch(part, config, group[0].scheduler, choices)
                for part in split_batches(names, self.client.limits.batch)
            ]
        if batches:
            started = zip(batches, self._launcher.write_intents(batches), strict=True)
            try:
                for part in self._map_parallel(lambda b: self._launcher.launch(*b), started):
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
        """What somebody removed by hand may be why launches failed for as long as we have patience.

        Nobody looks before, since that would cost a call each time.
        """
        if self.journal.read(lambda state: bool(state.resources)):
            with suppress(ProviderFailed):  # the launch's own error is told
                self._resource_manager().drop_gone()

    def _await_address(self, name: str) -> Outcome:
        """The record of a scheduler once it has an address, which some clouds give later."""

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
            f"its VM {record().vm} got no address within {ADDRESS_TIMEOUT:.0f} s",
            "Its record is kept. Look at the VM in the cloud's console, then apply again.",
        )

    def find_and_record(self) -> list[VM]:
        """Every VM of this cluster that is shown; addresses given since are recorded."""
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
        """The last lines that a node printed; empty where the cloud can't show them."""
        record = self.journal.read(lambda state: state.nodes.get(name))
        if record is None or not self.client.has_console:
            return ""
        try:
            text = self.client.console(record.vm, lines + MAX_SHUTDOWN_LINES, retry=False)
        except ProviderFailed:
            return ""  # it only explains another error, which must not be hidden by this one
        return extract_node_lines(text, lines)

    def resolve_intents(self, desired: Mapping[str, str]) -> None:
        """Close every intent that an earlier process left open.

        A request is only asked again if all of its names are still `desired` (name -> config
        digest);
        otherwise its VMs are found once they must be visible. Raises ProviderError where a cloud
        still can't say, and what `launch` raises.
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
        elif limits.tokens and all(desired.get(name) == intent.config for name in intent.names):
            renewed = intent.model_copy(update={"asked_at": self.clock.time()})
            self.journal.update(lambda state: state.intents.update({token: renewed}))
            _, error = self._launcher.request_and_record(token, renewed)
            if error is not None and error.kind.may_have_succeeded:
                raise ProviderFailed(error)
        else:
            self.on_event(
                Event(
                    event="waiting",
                    names=tuple(intent.names),
                    message="for an earlier request to show, or not",
                )
            )
            # From now, not from `asked_at`: intents are written in advance, and clocks jump.
            vms = self._launcher.poll_batch(token, intent, limits.consistency_delay)
            self._launcher.adopt(token, intent, vms)

    def terminate(self, names: Iterable[str]) -> None:
        """End these nodes and wait until each is confirmed gone; then they leave the state.

        Raises PlanapplyError naming those whose end could not be confirmed; they stay in the state.
        """
        self._terminator.terminate(list(names))

    def record_endpoint(self) -> None:
        """Have the state say where its scheduler is, if it does not."""
        if self.journal.read(lambda state: state.endpoint != current_endpoint(state)):
            self.journal.update(lambda state: setattr(state, "endpoint", current_endpoint(state)))

    def drop(self, names: Sequence[str]) -> None:
        """Take nodes out of the state whose VM a second look does not show either.

        The provider is told too: it may have something left of them.
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
        """End VMs that are in no state, found by this cluster's tags."""
        self._terminator.request_termination(ids)

    def retag(self, names: Sequence[str], tags: Mapping[str, str]) -> None:
        """Give these nodes exactly these user tags, in place."""
        records = self.journal.read(lambda state: [state.nodes[name] for name in names])
        removed = sorted({key for record in records for key in record.tags} - set(tags))
        self.client.retag([record.vm for record in records], tags, removed)

        def record_tags(state: State) -> None:
            for name in names:
                state.nodes[name].tags = dict(tags)

        self.journal.update(record_tags)
        self.on_event(Event(event="updated", names=tuple(names)))

    def prepare(self, desired_resources: Mapping[str, Resource], tags: Mapping[str, str]) -> None:
        """Make the supporting resources that are not there yet."""
        if desired_resources:
            self._resource_manager().prepare(desired_resources, tags)

    def cleanup(self) -> None:
        """Remove all supporting resources."""
        if self.journal.read(lambda state: bool(state.resources)):
            self._resource_manager().cleanup()

    def _resource_manager(self) -> ResourceManager:
        return ResourceManager(self.client, self.journal, self.on_event)

    def find(self) -> list[VM]:
        """Every VM of this cluster that the cloud shows."""
        return self.client.find(self.journal.read(cluster_tags))

    def _map_parallel(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """All results; the first exception is raised only when every call has ended."""
        if self.parallel < 1:
            return [function(item) for item in items]
        with ThreadPoolExecutor(self.parallel, thread_name_prefix="planapply") as pool:
            futures = [pool.submit(function, item) for item in items]
        return [future.result() for future in futures]
