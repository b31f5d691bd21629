"""What can go wrong with a state: one class for each that a caller may want to tell apart."""

import os
import shlex
from typing import Protocol, runtime_checkable

from planapply.model.diagnostics import Diagnostic, PlanapplyError
from planapply.store.lockinfo import LockInfo


@runtime_checkable
class HasDiagnostics(Protocol):
    """An exception, not always an error, that a person is told more of."""

    diagnostics: tuple[Diagnostic, ...]


def prepend_diagnostics(error: BaseException, problem: PlanapplyError) -> None:
    """Let `error` tell of a lock that was left as well, and first: what it advises needs the lock."""
    if isinstance(error, HasDiagnostics):
        error.diagnostics = problem.diagnostics + error.diagnostics


class StateError(PlanapplyError):
    """A state could not be reached, locked, unlocked or pushed; the base of all others here."""


class StateLocked(StateError):
    """Somebody else holds the lock; `holder` says who."""

    def __init__(self, location: str, holder: LockInfo, advice: str) -> None:
        self.holder = holder
        super().__init__(f"the state {location} is locked", f"{holder.describe()}\n{advice}")


class StateConflict(StateError):
    """Somebody else wrote the state since it was read, or broke our lock; ask for nothing more."""


class StateUnreadable(StateError):
    """There is a state, and it can't be understood or read; it is never overwritten."""


class StateInvalid(StateUnreadable):
    """What is there is no state, or a damaged one; `reason` says why."""

    def __init__(self, summary: str, reason: str, advice: str = "") -> None:
        self.reason = reason
        super().__init__(summary, f"{reason}{advice}")


class StateWriteError(StateError):
    """The state could not be written; the old one is intact, the newer one saved elsewhere."""


def not_locked_error(location: str) -> StateError:
    """What is said where there is no lock to break."""
    return StateError(f"the state {location} is not locked", "There is nothing to break.")


def format_path(path: str) -> str:
    """A path as it can be printed, whatever bytes are in it."""
    return os.fsencode(path).decode(errors="replace")


def unlock_command(lock_id: str, location: str) -> str:
    """The command that breaks a lock."""
    return f"planapply unlock {lock_id} --state {shlex.quote(location)}"


def push_command(file: str, location: str) -> str:
    """The command that makes a saved file the state."""
    return f"planapply state push {shlex.quote(file)} --state {shlex.quote(location)}"
