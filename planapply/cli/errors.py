"""Diagnostics for every kind of exception."""

from collections.abc import Iterator, Sequence
from types import FrameType

from planapply.model.diagnostics import Diagnostic, PlanapplyError
from planapply.model.event import Event
from planapply.render.document import diagnostics_document
from planapply.version import __version__

_DASK_CONFIG = "dask.config"


def expected_diagnostics(error: Exception) -> tuple[Diagnostic, ...]:
    """Return diagnostics for an error that the user, a provider, the machine, or the input causes.

    Any other exception is a bug: the result is then empty.
    """
    match error:
        case PlanapplyError():
            return error.diagnostics
        case _ if _is_from_dask_config(error):
            # Not the error's text, which quotes the file: a secret may be in it.
            return (
                Diagnostic(
                    summary=f"cannot read Dask's configuration{_dask_config_file(error)}",
                    detail="Correct the file, or the variables whose names begin with DASK_. Each file is "
                    "YAML with a mapping at its top.",
                    code="dask_config_invalid",
                ),
            )
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


def _is_from_dask_config(error: BaseException) -> bool:
    """Return whether the configuration of Dask, which it reads on import, causes an error."""
    return any(frame.f_globals.get("__name__") == _DASK_CONFIG for frame in _frames(error))


def _dask_config_file(error: BaseException) -> str:
    """Return ` FILE`, if a file causes an error of Dask's configuration."""
    for frame in _frames(error):
        if frame.f_globals.get("__name__") == _DASK_CONFIG and "path" in frame.f_locals:
            return f" {frame.f_locals['path']}"
    return ""


def _frames(error: BaseException) -> Iterator[FrameType]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


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
