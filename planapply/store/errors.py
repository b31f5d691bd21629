"""The errors of a state: one class for each error that a caller may handle."""

import os
import shlex
from typing import Protocol, runtime_checkable

from planapply.model.diagnostics import Diagnostic, PlanapplyError
from planapply.store.lockinfo import LockInfo


@runtime_checkable
class HasDiagnostics(Protocol):
    """An exception with diagnostics for the user; it need not be an error."""

    diagnostics: tuple[Diagnostic, ...]


def prepend_diagnostics(error: BaseException, problem: PlanapplyError) -> None:
    """Report a lock that could not be released first, since the advice of `error` needs the lock."""
    if isinstance(error, HasDiagnostics):
        error.diagnostics = problem.diagnostics + error.diagnostics


class StateError(PlanapplyError):
    """A state that cannot be reached, locked, unlocked, or pushed; the base class of the others."""

    code = "state_error"


class StateLocked(StateError):
    """A lock that another process holds; `holder` describes that process.

    `advice` is what to do instead of waiting; `waited` is in seconds.
    """

    code = "state_locked"

    def __init__(
        self,
        location: str,
        holder: LockInfo,
        advice: str,
        *,
        can_wait: bool = True,
        waited: float = 0.0,
    ) -> None:
        self.location, self.holder, self.advice, self.can_wait = location, holder, advice, can_wait
        summary = f"the state {location} is locked"
        if waited:
            summary = f"the state {location} is still locked after {waited:g} s"
        if can_wait:
            advice = f"Wait {'longer ' if waited else ''}with --lock-timeout; or {advice}"
        super().__init__(summary, f"{holder.describe()}\n{advice}")

    def after(self, seconds: float) -> "StateLocked":
        """Return the error for a process that has waited this long for the lock."""
        return StateLocked(
            self.location, self.holder, self.advice, can_wait=self.can_wait, waited=seconds
        )


class StateConflict(StateError):
    """A state that another process wrote or unlocked; the caller must send no further requests."""

    code = "state_conflict"


class StateUnreadable(StateError):
    """A state that exists but cannot be read; it is never overwritten."""

    code = "state_unreadable"


class StateInvalid(StateUnreadable):
    """A file that is not a state, or a damaged state; `reason` says why."""

    code = "state_invalid"

    def __init__(self, summary: str, reason: str, advice: str = "") -> None:
        self.reason = reason
        super().__init__(summary, f"{reason}{advice}")


class StateWriteError(StateError):
    """A failed write: the previous version is unchanged, and the new one is saved elsewhere."""

    code = "state_not_written"


def not_locked_error(location: str) -> StateError:
    """Return the error for releasing a lock that does not exist."""
    return StateError(
        f"cannot release the lock on the state {location}: it is not locked",
        "Nothing needs to be done.",
    )


def wrong_lock_error(location: str, lock_id: str, holder: LockInfo) -> StateError:
    """Return the error for releasing a lock with another ID."""
    return StateError(f"the state {location} has no lock {lock_id}", holder.describe())


def format_path(path: str) -> str:
    """Return a path in printable form, whatever bytes it contains."""
    return os.fsencode(path).decode(errors="replace")


def unlock_command(lock_id: str, location: str) -> str:
    """Return the command that releases an abandoned lock."""
    return f"planapply unlock {shlex.quote(lock_id)} --state {shlex.quote(location)}"


def push_command(file: str, location: str) -> str:
    """Return the command that replaces the state with a saved file."""
    return f"planapply state push {shlex.quote(file)} --state {shlex.quote(location)}"
