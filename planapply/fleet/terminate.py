"""From VMs to nothing: marked, asked, confirmed, forgotten, in this order."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from planapply.fleet.journal import Journal
from planapply.fleet.launch import Listener
from planapply.fleet.request import cluster_tags
from planapply.fleet.retry import Bucket, Patience
from planapply.model.diagnostics import PlanapplyError
from planapply.model.event import Event
from planapply.model.names import to_ranges
from planapply.model.node import VM
from planapply.model.state import State
from planapply.provider import ErrorKind, Provider

UNKNOWN = frozenset({ErrorKind.UNKNOWN})
LONGEST_END = 600.0  # seconds: EC2 VMs with large memory take minutes to shut down


@dataclass
class Terminator:
    """Ends VMs; one object serves a fleet."""

    provider: Provider
    journal: Journal
    patience: Patience
    requests: Bucket
    vms: Bucket
    tell: Listener

    def ask(self, ids: Sequence[str]) -> set[str]:
        """Ask for the end of these VMs; gives the ids that the cloud did not know."""
        unknown: set[str] = set()
        most = self.provider.limits.terminate_batch
        for start in range(0, len(ids), most):
            part = ids[start : start + most]
            self.requests.take()
            self.vms.take(len(part))
            # Ending what has ended is a success, so a lost answer is simply asked for again.
            unknown.update(self.patience.call(partial(self.provider.terminate, part), also=UNKNOWN))
        return unknown

    def terminate(self, names: list[str]) -> None:
        """Mark, ask, wait until none is shown, forget; raises PlanapplyError for those that remain."""

        def mark(state: State) -> None:
            for name in names:
                state.nodes[name].status = "terminating"

        if not names:
            return
        self.journal.update(mark)
        self.tell(Event(event="terminating", names=tuple(names)))
        records = self.journal.read(lambda state: {name: state.nodes[name] for name in names})
        unknown = self.ask([record.vm for record in records.values()])
        clock, settle = self.patience.clock, self.provider.limits.settle
        # By a clock that can't jump: an existing VM is shown by then.
        visible = clock.monotonic() + settle

        def gone() -> bool:
            nonlocal unknown
            shown = {vm.id: vm for vm in self._find()}
            # One that was too young to be known when we asked must be asked for when it shows.
            again = [i for i in unknown if i in shown and shown[i].status != "stopping"]
            if again:
                unknown = unknown - set(again) | self.ask(again)
            ended = [
                name
                for name, record in records.items()
                if record.vm not in shown
                and (record.vm not in unknown or clock.monotonic() > visible)
            ]
            if ended:
                self.forget(ended)
            for name in ended:
                del records[name]
            return not records

        try:
            ended = self.patience.until(gone, every=self.provider.limits.poll, limit=LONGEST_END)
        finally:
            self.journal.flush()
        if not ended:
            raise PlanapplyError(
                f"{len(records)} VMs were asked to end and are still shown: "
                + " ".join(to_ranges(records)),
                "They stay in the state; run `planapply destroy` or `planapply apply` again.",
            )

    def _find(self) -> list[VM]:
        tags = self.journal.read(cluster_tags)
        return self.patience.call(lambda: self.provider.find(tags), also=UNKNOWN)

    def forget(self, names: list[str]) -> None:
        """Take nodes out of the state whose VMs are known to be gone."""

        def forget(state: State) -> None:
            for name in names:
                del state.nodes[name]
            used = {record.config for record in state.nodes.values()}
            used.update(intent.config for intent in state.intents.values())
            for digest in state.configs.keys() - used:
                del state.configs[digest]

        self.journal.note(forget, len(names))
        self.tell(Event(event="terminated", names=tuple(names)))
