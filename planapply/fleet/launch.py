"""Launching batches: write the intent, send the request, record the answer; then the next choice."""

import secrets as randomness
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from planapply.fleet.clock import wait_until
from planapply.fleet.journal import Journal
from planapply.fleet.plugin_calls import MAX_COST_CODE, ProviderFailed
from planapply.fleet.prices import Budget
from planapply.fleet.provider_client import ProviderClient
from planapply.fleet.rate_limit import TokenBucket
from planapply.fleet.request import launch_request
from planapply.fleet.secrets import node_secrets
from planapply.model.diagnostics import PlanapplyError
from planapply.model.event import Event
from planapply.model.names import SCHEDULER
from planapply.model.node import TAG_BATCH, VM, NodeConfig
from planapply.model.node_secrets import secret_digests
from planapply.model.state import Choice, Intent, NodeRecord, State
from planapply.provider import ErrorKind, LaunchResult, ProviderError

NEXT_CHOICE_KINDS = frozenset({ErrorKind.CAPACITY, ErrorKind.QUOTA})
NEW_TOKENS = 3  # for one choice, if the cloud reports that a token is spent
Outcome = NodeRecord | ProviderError
Listener = Callable[[Event], None]


@dataclass(frozen=True)
class Batch:
    """Nodes that one request can launch."""

    names: list[str]
    config: NodeConfig
    scheduler: str | None
    choices: Sequence[Choice]
    """Choices that have not been tried yet."""
    token: str = ""
    """The token of the intent for the first choice; empty if the budget allows no choice."""
    refusals: tuple[str, ...] = ()
    """The choices that the budget does not allow, each with the reason."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The values of the configuration's secrets, by variable: read once, since a repeated request must be the same."""


@dataclass
class Launcher:
    """Launches batches; one object serves all threads of a fleet."""

    client: ProviderClient
    journal: Journal
    request_bucket: TokenBucket
    vm_bucket: TokenBucket
    on_event: Listener
    budget: Budget | None = None

    def write_intents(self, batches: Sequence[Batch]) -> list[Batch]:
        """Record an intent for each batch's next choice, in one write; return them with their tokens.

        A choice that exceeds the budget is skipped and reported. Raises ProviderFailed if a price
        cannot be requested.
        """
        clock = self.client.clock
        clock.check()
        if self.budget is not None:
            choices = [choice for batch in batches for choice in batch.choices]
            self.budget.load(self.journal.read(self.budget.items), choices)
        tokens = [f"{clock.random.getrandbits(80):020x}" for _ in batches]
        recorded: list[Batch] = []

        def write_ahead(state: State) -> None:
            state.issue(tokens, clock.time())
            for token, batch in zip(tokens, batches, strict=True):
                # Here, because the intents of all batches together must be within the budget.
                recorded.append(affordable := self._skip_expensive(batch, token, state))
                if not affordable.token:
                    continue
                state.configs[batch.config.digest] = batch.config
                if batch.secrets and not state.secret_salt:
                    state.secret_salt = randomness.token_hex(16)
                state.intents[token] = Intent(
                    names=batch.names,
                    config=batch.config.digest,
                    choice=affordable.choices[0],
                    scheduler_address=batch.scheduler,
                    requested_at=clock.time(),
                    lifetimes=batch.config.lifetimes if batch.config.group == SCHEDULER else None,
                    secrets=secret_digests(batch.secrets, state.secret_salt),
                )

        self.journal.update(write_ahead)
        for before, batch in zip(batches, recorded, strict=True):
            for refusal in batch.refusals[len(before.refusals) :]:
                message = f"not trying {refusal}"
                self.on_event(Event(event="note", names=tuple(batch.names), message=message))
        return recorded

    def _skip_expensive(self, batch: Batch, token: str, state: State) -> Batch:
        """Return the batch without the choices before the first one that the budget allows."""
        refusals = list(batch.refusals)
        for index, choice in enumerate(batch.choices):
            reason = self.budget.refusal(state, len(batch.names), choice) if self.budget else ""
            if not reason:
                return replace(
                    batch, token=token, choices=batch.choices[index:], refusals=tuple(refusals)
                )
            refusals.append(f"{_format_choice(choice, on_demand=True)}: {reason}")
        return replace(batch, token="", choices=(), refusals=tuple(refusals))

    def launch(self, batch: Batch) -> dict[str, Outcome]:
        """Launch one batch whose intent is written, trying its choices in order.

        Return an outcome for each name. Flush the journal afterwards. Raises Stopped and the store's
        errors; then the intent stays open.
        """
        outcomes: dict[str, Outcome] = {}
        new_tokens, remaining = 0, batch.names
        error: ProviderError | None = None
        while batch.token:
            self.on_event(
                Event(
                    event="launching",
                    names=tuple(batch.names),
                    message=_format_choice(batch.choices[0]),
                )
            )
            token = batch.token
            intent = self.journal.read(lambda state, token=token: state.intents[token])  # type: ignore[misc]
            records, error = self.request_and_record(token, intent, batch.secrets)
            outcomes.update(records)
            if error is None:
                return outcomes
            remaining = [name for name in batch.names if name not in records]
            outcomes.update(dict.fromkeys(remaining, error))
            if error.kind is ErrorKind.TOKEN_SPENT and new_tokens < NEW_TOKENS:
                new_tokens += 1
                batch = replace(batch, names=remaining)
            elif error.kind in NEXT_CHOICE_KINDS and len(batch.choices) > 1:
                new_tokens = 0
                batch = replace(batch, names=remaining, choices=batch.choices[1:])
            else:
                break
            try:
                (batch,) = self.write_intents([batch])
            except ProviderFailed as failed:  # a price cannot be requested
                return {**outcomes, **dict.fromkeys(remaining, failed.error)}
        if batch.refusals and (error is None or error.kind in NEXT_CHOICE_KINDS):
            refused = _budget_error(batch.refusals, error)
            outcomes.update(dict.fromkeys(remaining, refused))
        return outcomes

    def repeatable_secrets(self, intent: Intent) -> dict[str, str] | None:
        """Return the secrets of a request of an earlier process; None if they are missing or not the same now."""
        config, salt = self.journal.read(
            lambda state: (state.configs[intent.config], state.secret_salt)
        )
        try:
            values = node_secrets(config)
        except PlanapplyError:
            return None
        return values if secret_digests(values, salt) == intent.secrets else None

    def request_and_record(
        self, token: str, intent: Intent, secrets: Mapping[str, str]
    ) -> tuple[dict[str, NodeRecord], ProviderError | None]:
        """Send the request and record the answer; keep the intent open if the result is unknown.

        `secrets` are the values of the configuration's secrets whose digests the intent has.
        """
        try:
            result = self._request(token, intent, secrets)
        except ProviderFailed as failed:
            error = failed.error
            if error.kind.may_have_succeeded:
                return {}, ProviderError(
                    error.kind,
                    error.summary,
                    "The request may have succeeded. It is recorded; the next apply or destroy will "
                    "resolve it.",
                    code=error.code,
                )
            result = LaunchResult((), error)
        return self.adopt(token, intent, result.vms), self._shortfall(intent, result)

    def _shortfall(self, intent: Intent, result: LaunchResult) -> ProviderError | None:
        if {vm.name for vm in result.vms if vm.status != "stopping"} >= set(intent.names):
            return None
        return result.shortfall or ProviderError(
            ErrorKind.CAPACITY,
            "the cloud launched fewer VMs than requested, or terminated some at once",
        )

    def _request(self, token: str, intent: Intent, secrets: Mapping[str, str]) -> LaunchResult:
        limits = self.client.limits
        request = self.journal.read(
            lambda state: launch_request(state, token, intent, limits, secrets)
        )

        def wait_for_rate() -> None:
            self.request_bucket.take()
            self.vm_bucket.take(len(request.names))
            self.client.clock.check()

        try:
            return self.client.launch(request, wait_for_rate)
        except ProviderFailed as failed:
            error = failed.error
            if error.kind is ErrorKind.PLUGIN_BUG:
                raise  # a new token would end in the same bug
            # A later "throttled" or "rejected" says nothing about the call whose response was lost.
            if not failed.is_response_lost and error.kind is not ErrorKind.TOKEN_SPENT:
                raise
            message = f"{error.summary}; checking whether the request succeeded"
            self.on_event(Event(event="note", names=request.names, message=message))
            vms = self.poll_batch(token, intent, limits.consistency_delay)
            # Now the result is known: VMs that are missing do not exist, so a new token may request them.
            kind = ErrorKind.TOKEN_SPENT if error.kind is ErrorKind.UNKNOWN else error.kind
            return LaunchResult(
                vms, ProviderError(kind, error.summary, error.detail, code=error.code)
            )

    def poll_batch(self, token: str, intent: Intent, seconds: float) -> tuple[VM, ...]:
        """Return the batch's VMs: all of them, or those that are visible after `seconds`.

        A VM of another request is none of them, even if another user has given it the batch's tag.
        Raises ProviderFailed, with an error of kind UNKNOWN, if the cloud cannot say.
        """
        found: dict[str, VM] = {}

        def complete() -> bool:
            vms = self.client.find({TAG_BATCH: token})
            found.update({vm.id: vm for vm in vms if vm.has_token(token)})
            return {vm.name for vm in found.values()} >= set(intent.names)

        interval = self.client.limits.poll
        try:
            wait_until(self.client.clock, complete, interval=interval, timeout=seconds)
        except ProviderFailed as failed:
            error = failed.error
            raise ProviderFailed(
                ProviderError(ErrorKind.UNKNOWN, error.summary, error.detail, code=error.code)
            ) from error
        return tuple(found.values())

    def adopt(self, token: str, intent: Intent, vms: Sequence[VM]) -> dict[str, NodeRecord]:
        """Record a batch's VMs and close its intent in one update; terminate duplicate VMs."""
        records: dict[str, NodeRecord] = {}
        strays = []
        for vm in sorted(vms, key=lambda vm: (vm.launched_at or 0.0, vm.id)):
            if vm.name not in intent.names or vm.name in records:
                strays.append(vm.id)
            elif vm.status != "stopping":
                tags = self.journal.read(lambda state: state.configs[intent.config].tags)
                records[vm.name] = NodeRecord.from_vm(
                    vm,
                    intent.config,
                    tags,
                    intent.requested_at,
                    intent.lifetimes,
                    intent.secrets,
                )

        def record(state: State) -> None:
            state.nodes.update(records)
            state.intents.pop(token, None)

        if strays:
            # Before the intent is closed, because until then the next run finds them by its token.
            self.client.terminate(strays)
        self.journal.update_deferred(record, len(intent.names))
        if records:
            self.on_event(Event(event="launched", names=tuple(records)))
        return records


def _format_choice(choice: Choice, *, on_demand: bool = False) -> str:
    market = "spot" if choice.spot else "on-demand" if on_demand else None
    return ", ".join(part for part in (choice.size, choice.zone, market) if part)


def _budget_error(refusals: Sequence[str], error: ProviderError | None) -> ProviderError:
    """Return the error of nodes that were not launched because of the budget.

    `error` is that of the last choice that was tried, if any.
    """
    advice = "Raise `max_cost` under [cluster], make the cluster smaller, or try again later."
    not_tried = f"`max_cost` does not allow {'; '.join(refusals)}."
    if error is None:
        summary = f"not launched because of `max_cost`: {refusals[0]}"
        detail = f"{not_tried} {advice}" if len(refusals) > 1 else advice
        return ProviderError(ErrorKind.REJECTED, summary, detail, code=MAX_COST_CODE)
    return ProviderError(
        error.kind,
        error.summary,
        " ".join(filter(None, (error.detail, not_tried, advice))),
        code=error.code,
    )
