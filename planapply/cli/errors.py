"""What is said of an error, whatever kind it is."""

import planapply
from planapply.model.diagnostics import Diagnostic, PlanapplyError


def expected_diagnostics(error: Exception) -> tuple[Diagnostic, ...]:
    """What the user, a provider, the machine or the input can do to us at any place; else nothing."""
    match error:
        case PlanapplyError():
            return error.diagnostics
        case OSError():
            file = f"{error.filename}: " if error.filename else ""
            return (Diagnostic(summary=f"{file}{error.strerror or error}"),)
        case UnicodeError():
            summary = f"this is not text in the encoding that is needed: {error}"
        case RecursionError():
            summary = "the input is nested too deeply"
        case MemoryError():
            summary = "there is not enough memory"
        case _:
            return ()
    return (Diagnostic(summary=summary),)


def diagnostics_of(error: Exception) -> tuple[Diagnostic, ...]:
    """As `expected_diagnostics`, or that it is a bug."""
    return expected_diagnostics(error) or (
        Diagnostic(
            summary=f"this is a bug in planapply {planapply.__version__}: {error!r}",
            detail="What was launched is recorded in the state. Please report it, with what "
            "stands above.",
        ),
    )
