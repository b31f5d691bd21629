"""Diagnostics for every kind of exception."""

from collections.abc import Sequence

from planapply.model.diagnostics import Diagnostic, PlanapplyError
from planapply.model.event import Event
from planapply.render.document import diagnostics_document
from planapply.version import __version__


def expected_diagnostics(error: Exception) -> tuple[Diagnostic, ...]:
    """Return diagnostics for an error that the user, a provider, the machine, or the input causes.

    Any other exception is a bug: the result is then empty.
    """
    match error:
        case PlanapplyError():
            return error.diagnostics
        case OSError():
            file = f"{error.filename}: " if error.filename else ""
            return (Diagnostic(summary=f"{file}{error.strerror or error}", code="system_error"),)
        case UnicodeError():
            summary = f"cannot decode or encode a text: {error}"
        case RecursionError():
            summary = "the input is nested too deeply"
        case MemoryError():
            summary = "not enough memory"
        case _:
            return ()
    return (Diagnostic(summary=summary, code="input_error"),)


def failed_event(problems: Sequence[Diagnostic]) -> Event:
    """Return the last event of an apply that failed before it changed anything."""
    counts = {"added": 0, "changed": 0, "destroyed": 0}
    details = {"diagnostics": diagnostics_document(problems)}
    return Event(event="finished", data={"outcome": "failed", **counts, **details})


def diagnostics_of(error: Exception) -> tuple[Diagnostic, ...]:
    """Return diagnostics for any error; an unexpected error is reported as a bug."""
    return expected_diagnostics(error) or (
        Diagnostic(
            summary=f"this is a bug in planapply {__version__}: {error!r}",
            detail="Everything that was launched is recorded in the state. Please report this bug, "
            "with the traceback above.",
            code="bug",
        ),
    )
