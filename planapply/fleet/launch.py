"""From names to VMs: an intent, a question, an answer; again until there is nothing left to try."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from planapply.fleet.journal import Journal
from planapply.fleet.patience import Bucket, Patience
from planapply.fleet.request import launch_request
from planapply.model.event import Event
from planapply.model.node import TAG_BATCH, VM, NodeConfig
from planapply.model.state import Choice, Intent, NodeRecord, State
from planapply.provider import ErrorKind, LaunchResult, Provider, ProviderError

ELSEWHERE = frozenset({ErrorKind.CAPACITY, ErrorKind.QUOTA})
NEW_TOKENS = 3  # for one choice, when the cloud says that a token is spent
Outcome = NodeRecord | ProviderError
Listener = Callable[[Event], None]


@dataclass
class Launcher:
    """Launches batches; one object serves all threads of a fleet."""

    provider: Provider
    journal: Journal
    patience: Patience
    requests: Bucket
    vms: Bucket
    tell: Listener

    def launch(
        self, names: Sequence[str], config: NodeConfig, scheduler: str | None
    ) -> dict[str, Outcome]:
        """Launch one batch, trying the config's alternatives in order; one outcome for each name.

        Raises Stopped, and what the store raises; then the intent stays open.
        """
        outcomes: dict[str, Outcome] = {}
        left = list(names)
        for choice in self.provider.alternatives(config):
            for _ in range(NEW_TOKENS):
                got, error = self._attempt(left, config, choice, scheduler)
                outcomes.update(got)
                left = [name for name in left if name not in got]
                if error is None or error.kind is not ErrorKind.SPENT:
                    break
            if error is None:
                break
            outcomes.update(dict.fromkeys(left, error))
            if error.kind not in ELSEWHERE:
                break
        return outcomes

    def _attempt(
        self, names: list[str], config: NodeConfig, choice: Choice, scheduler: str | None
    ) -> tuple[dict[str, NodeRecord], ProviderError | None]:
        clock = self.patience.clock
        clock.check()
        token = f"{clock.random.getrandbits(80):020x}"
        intent = Intent(
            names=names,
            config=config.digest,
            choice=choice,
            scheduler=scheduler,
            asked_at=clock.time(),
        )

        def write_ahead(state: State) -> None:
            state.configs[config.digest] = config
            state.intents[token] = intent

        self.journal.update(write_ahead)
        self.tell(Event(event="launching", names=tuple(names), message=_where(choice)))
        return self.answer(token, intent)

    def answer(
        self, token: str, intent: Intent
    ) -> tuple[dict[str, NodeRecord], ProviderError | None]:
        """Ask, and record the answer; the intent stays open only while its outcome is unknown."""
        try:
            result = self._ask(token, intent)
        except ProviderError as error:
            if error.kind is ErrorKind.UNKNOWN:
                return {}, ProviderError(
                    error.kind,
                    error.summary,
                    "It may have been carried out; the state remembers the request, and the next "
                    "apply or destroy settles it first.",
                )
            result = LaunchResult((), error)
        return self.adopt(token, intent, result.vms), self._shortfall(intent, result)

    def _shortfall(self, intent: Intent, result: LaunchResult) -> ProviderError | None:
        if {vm.name for vm in result.vms} >= set(intent.names):
            return None
        return result.shortfall or ProviderError(
            ErrorKind.CAPACITY, "the cloud launched fewer VMs than were asked for"
        )

    def _ask(self, token: str, intent: Intent) -> LaunchResult:
        limits = self.provider.limits
        request = self.journal.read(lambda state: launch_request(state, token, intent, limits))
        lost = False

        def once() -> LaunchResult:
            nonlocal lost
            self.requests.take()
            self.vms.take(len(request.names))
            self.patience.clock.check()
            try:
                return self.provider.launch(request)
            except ProviderError as error:
                lost = lost or error.kind is ErrorKind.UNKNOWN
                raise

        try:
            also = frozenset({ErrorKind.UNKNOWN}) if limits.tokens else frozenset[ErrorKind]()
            return self.patience.call(once, also=also)
        except ProviderError as error:
            # A later "throttled" or "refused" says nothing of the call whose answer was lost.
            if not lost and error.kind is not ErrorKind.SPENT:
                raise
            vms = self.look(token, intent, limits.settle)
            # Now it is known: what is missing does not exist, so that a new token may ask for it.
            kind = ErrorKind.SPENT if error.kind is ErrorKind.UNKNOWN else error.kind
            return LaunchResult(vms, ProviderError(kind, error.summary, error.detail))

    def look(self, token: str, intent: Intent, seconds: float) -> tuple[VM, ...]:
        """The batch's VMs: all of them, or those that are visible after `seconds`.

        Raises an unknown ProviderError when the cloud can't be asked.
        """
        found: dict[str, VM] = {}

        def complete() -> bool:
            found.update({vm.id: vm for vm in self.find({TAG_BATCH: token})})
            return {vm.name for vm in found.values()} >= set(intent.names)

        try:
            self.patience.until(complete, every=self.provider.limits.poll, limit=seconds)
        except ProviderError as error:
            raise ProviderError(ErrorKind.UNKNOWN, error.summary, error.detail) from error
        return tuple(found.values())

    def find(self, tags: Mapping[str, str]) -> list[VM]:
        """What exists now, as far as the cloud shows it."""
        return self.patience.call(
            lambda: self.provider.find(tags), also=frozenset({ErrorKind.UNKNOWN})
        )

    def adopt(self, token: str, intent: Intent, vms: Sequence[VM]) -> dict[str, NodeRecord]:
        """Record a batch's VMs and close its intent in one write; end what was made twice."""
        records: dict[str, NodeRecord] = {}
        strays = []
        for vm in sorted(vms, key=lambda vm: (vm.launched_at or 0.0, vm.id)):
            if vm.name not in intent.names or vm.name in records:
                strays.append(vm.id)
            elif vm.status != "stopping":
                tags = self.journal.read(lambda state: state.configs[intent.config].tags)
                records[vm.name] = NodeRecord.of(vm, intent.config, tags, intent.asked_at)

        def record(state: State) -> None:
            state.nodes.update(records)
            state.intents.pop(token, None)

        if strays:
            # Before the intent is closed: until then, the next run finds them again by its token.
            self.patience.call(
                lambda: self.provider.terminate(strays), also=frozenset({ErrorKind.UNKNOWN})
            )
        self.journal.update(record)
        if records:
            self.tell(Event(event="launched", names=tuple(records)))
        return records


def _where(choice: Choice) -> str:
    parts = (choice.size, choice.zone, "spot" if choice.spot else None)
    return ", ".join(part for part in parts if part)
