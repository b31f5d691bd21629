"""Terminating VMs: mark them, request it, wait until they are gone, remove them from the state."""

from collections.abc import Sequence
from dataclasses import dataclass

from planapply.fleet.clock import wait_until
from planapply.fleet.journal import Journal
from planapply.fleet.launch import Listener
from planapply.fleet.provider_client import ProviderClient
from planapply.fleet.rate_limit import TokenBucket
from planapply.model.diagnostics import PlanapplyError
from planapply.model.event import Event
from planapply.model.names import format_names
from planapply.model.node import VM
from planapply.model.state import State
from planapply.model.tags import cluster_tags

TERMINATION_TIMEOUT = 600.0  # seconds: EC2 VMs with much memory take minutes to shut down


@dataclass
class Terminator:
    """Terminates VMs; one object serves a fleet."""

    client: ProviderClient
    journal: Journal
    request_bucket: TokenBucket
    vm_bucket: TokenBucket
    on_event: Listener

    def request_termination(self, ids: Sequence[str]) -> set[str]:
        """Request the termination of these VMs; return the ids that the cloud does not know."""
        unknown: set[str] = set()
        batch_size = self.client.limits.terminate_batch
        for start in range(0, len(ids), batch_size):
            part = ids[start : start + batch_size]
            self.request_bucket.take()
            self.vm_bucket.take(len(part))
            unknown.update(self.client.terminate(part))
        return unknown

    def terminate(self, names: list[str]) -> None:
        """Terminate nodes and remove them from the state; raises PlanapplyError if some remain."""

        def mark(state: State) -> None:
            for name in names:
                state.nodes[name].status = "terminating"

        if not names:
            return
        self.journal.update(mark)
        self.on_event(Event(event="terminating", names=tuple(names)))
        records = self.journal.read(lambda state: {name: state.nodes[name] for name in names})
        unknown = self.request_termination([record.vm for record in records.values()])
        clock, delay = self.client.clock, self.client.limits.consistency_delay
        # On a clock that cannot jump. An existing VM is visible by then.
        visible_at = clock.monotonic() + delay

        def all_gone() -> bool:
            nonlocal unknown
            visible_vms = {vm.id: vm for vm in self._find()}
            # A VM that was too new to be known then must be terminated when it becomes visible.
            to_retry = [
                i for i in unknown if i in visible_vms and visible_vms[i].status != "stopping"
            ]
            if to_retry:
                unknown = unknown - set(to_retry) | self.request_termination(to_retry)
            ended = [
                name
                for name, record in records.items()
                if record.vm not in visible_vms
                and (record.vm not in unknown or clock.monotonic() > visible_at)
            ]
            if ended:
                self.drop(ended)
            for name in ended:
                del records[name]
            return not records

        try:
            ended = wait_until(
                clock, all_gone, interval=self.client.limits.poll, timeout=TERMINATION_TIMEOUT
            )
        finally:
            self.journal.flush()
        if not ended:
            raise PlanapplyError(
                f"{len(records)} VMs did not terminate in time: " + format_names(records),
                "They stay in the state. Run `planapply destroy` or `planapply apply` again.",
            )

    def _find(self) -> list[VM]:
        return self.client.find(self.journal.read(cluster_tags))

    def drop(self, names: list[str]) -> None:
        """Remove nodes from the state whose VMs are known to be gone."""

        def drop(state: State) -> None:
            dropped = {state.nodes.pop(name).batch for name in names}
            # A state of an older version has no other record of them, and a duplicate VM may remain.
            state.issue(sorted(dropped - state.issued.keys()), self.client.clock.time())
            used = {record.config for record in state.nodes.values()}
            used.update(intent.config for intent in state.intents.values())
            for digest in state.configs.keys() - used:
                del state.configs[digest]

        self.journal.update_deferred(drop, len(names))
        self.on_event(Event(event="terminated", names=tuple(names)))
