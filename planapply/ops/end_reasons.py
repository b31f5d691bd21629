"""Why lost nodes have ended: from the state, the cloud's records, and the console of a few VMs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from planapply.bootstrap import MAX_SHUTDOWN_LINES, find_end_reason
from planapply.diff import RefreshResult
from planapply.fleet import ProviderClient, ProviderFailed
from planapply.model.end_reason import EndReason, add_ended
from planapply.model.names import SCHEDULER
from planapply.model.state import State

MAX_CONSOLES = 4
"""Consoles that one command reads, the scheduler's first."""
CONSOLE_LINES = 40 + MAX_SHUTDOWN_LINES
"""A VM prints the reason within its last lines, before those of its shutdown."""
_NOT_PRECISE = (EndReason.POWERED_OFF, EndReason.UNKNOWN)


def explain_ends(client: ProviderClient, refreshed: RefreshResult) -> RefreshResult:
    """Return a refreshed state with the reasons for which nodes have ended; change nothing.

    At most one call for all of them, and a few for consoles; none if no node is lost. A call that fails
    makes the reasons unknown.
    """
    nodes = {name: refreshed.state.nodes[name].vm for name in refreshed.lost}
    if not nodes:
        return refreshed
    recorded = {ended.vm: ended.reason for ended in refreshed.state.ended}
    ended: dict[str, EndReason] = {
        name: reason
        for name, vm in nodes.items()
        if (reason := recorded.get(vm, EndReason.UNKNOWN)) is not EndReason.UNKNOWN
    }
    missing = {name: vm for name, vm in nodes.items() if name not in ended}
    if missing:
        ended |= dict(_find_reasons(client, missing))
    if SCHEDULER in ended:
        # Workers power off when they lose their scheduler.
        ended |= {
            name: EndReason.SCHEDULER_GONE
            for name, reason in ended.items()
            if reason is EndReason.POWERED_OFF and name != SCHEDULER
        }
    return replace(refreshed, ended=ended)


def _find_reasons(
    client: ProviderClient, vms: Mapping[str, str]
) -> Iterator[tuple[str, EndReason]]:
    known: Mapping[str, EndReason] = {}
    if client.has_end_reasons:
        with suppress(ProviderFailed):
            known = client.end_reasons([*vms.values()])
    consoles = 0
    for name, vm in vms.items():
        reason = known.get(vm, EndReason.UNKNOWN)
        # A cloud that does not know a VM any more has no console of it either.
        is_worth_reading = reason in _NOT_PRECISE if vm in known else not client.has_end_reasons
        if is_worth_reading and consoles < MAX_CONSOLES:
            consoles += 1
            reason = _read_reason(client, vm) or reason
        yield name, reason


def _read_reason(client: ProviderClient, vm: str) -> EndReason | None:
    if not client.has_console:
        return None
    try:
        return find_end_reason(client.console(vm, CONSOLE_LINES, retry=False))
    except ProviderFailed:
        return None


def record_ends(state: State, refreshed: RefreshResult, now: float) -> None:
    """Record in the state why its nodes have ended; `now` is in seconds since the epoch."""
    vms: Sequence[tuple[str, str]] = [(name, state.nodes[name].vm) for name in refreshed.ended]
    state.ended = add_ended(state.ended, vms, refreshed.ended, now)


def has_unrecorded_ends(refreshed: RefreshResult) -> bool:
    """Return whether the reason for an end is known, but not recorded: the cloud may soon forget it."""
    recorded = {ended.vm for ended in refreshed.state.ended}
    return any(
        reason is not EndReason.UNKNOWN and refreshed.state.nodes[name].vm not in recorded
        for name, reason in refreshed.ended.items()
    )
