"""From names to VMs: an intent, a question, an answer; again until there is nothing left to try."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from planapply.fleet.journal import Journal
from planapply.fleet.request import launch_request
from planapply.fleet.retry import Bucket, Patience
from planapply.model.event import Event
from planapply.model.node import TAG_BATCH, VM, NodeConfig
from planapply.model.state import Choice, Intent, NodeRecord, State
from planapply.provider import ErrorKind, LaunchResult, PluginBug, Provider, ProviderError

ELSEWHERE = frozenset({ErrorKind.CAPACITY, ErrorKind.QUOTA})
NEW_TOKENS = 3  # for one choice, when the cloud says that a token is spent
Outcome = NodeRecord | ProviderError
Listener = Callable[[Event], None]


@dataclass(frozen=True)
class Batch:
    """Nodes that one request can ask for."""

    names: list[str]
    config: NodeConfig
    scheduler: str | None
    choices: Sequence[Choice]
    """Those that are left to try."""


@dataclass
class Launcher:
    """Launches batches; one object serves all threads of a fleet."""

    provider: Provider
    journal: Journal
    patience: Patience
    requests: Bucket
    vms: Bucket
    tell: Listener

    def begin(self, batches: Sequence[Batch]) -> list[str]:
        """Write the intents of each batch's next choice, all in one write; gives their tokens."""
        clock = self.patience.clock
        clock.check()
        tokens = [f"{clock.random.getrandbits(80):020x}" for _ in batches]

        def write_ahead(state: State) -> None:
            for token, batch in zip(tokens, batches, strict=True):
                state.configs[batch.config.digest] = batch.config
                state.intents[token] = Intent(
                    names=batch.names,
                    config=batch.config.digest,
                    choice=batch.choices[0],
                    scheduler=batch.scheduler,
                    asked_at=clock.time(),
                )

        self.journal.update(write_ahead)
        return tokens

    def launch(self, batch: Batch, token: str) -> dict[str, Outcome]:
        """Launch one batch that was begun, trying its choices in order; an outcome for each name.

        What could not be written yet is in the journal: flush it. Raises Stopped, and what the
        store raises; then the intent stays open.
        """
        outcomes: dict[str, Outcome] = {}
        new_tokens = 0
        while True:
            self.tell(
                Event(event="launching", names=tuple(batch.names), message=_where(batch.choices[0]))
            )
            intent = self.journal.read(lambda state, token=token: state.intents[token])  # type: ignore[misc]
            got, error = self.answer(token, intent)
            outcomes.update(got)
            if error is None:
                return outcomes
            left = [name for name in batch.names if name not in got]
            outcomes.update(dict.fromkeys(left, error))
            if error.kind is ErrorKind.SPENT and new_tokens < NEW_TOKENS:
                new_tokens += 1
                batch = replace(batch, names=left)
            elif error.kind in ELSEWHERE and len(batch.choices) > 1:
                new_tokens = 0
                batch = replace(batch, names=left, choices=batch.choices[1:])
            else:
                return outcomes
            (token,) = self.begin([batch])

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
        except PluginBug:
            raise  # a new token would bring the same
        except ProviderError as error:
            # A later "throttled" or "refused" says nothing of the call whose answer was lost.
            if not lost and error.kind is not ErrorKind.SPENT:
                raise
            message = f"{error.summary}; looking whether it was done all the same"
            self.tell(Event(event="note", names=request.names, message=message))
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
        """Record a batch's VMs and close its intent, at once; end what was made twice."""
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
        self.journal.note(record, len(intent.names))
        if records:
            self.tell(Event(event="launched", names=tuple(records)))
        return records


def _where(choice: Choice) -> str:
    parts = (choice.size, choice.zone, "spot" if choice.spot else None)
    return ", ".join(part for part in parts if part)
