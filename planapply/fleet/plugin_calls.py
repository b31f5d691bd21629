"""Calls of a plug-in's functions, whose failures are reported as PlanapplyError."""

from collections.abc import Callable
from typing import TypeVar

from planapply.model.diagnostics import PlanapplyError
from planapply.provider import ErrorKind, Plugin, ProviderError

T = TypeVar("T")

MAX_COST_CODE = "max_cost_exceeded"
"""Code of a ProviderError for nodes that were not launched because of `max_cost`."""


SECRET_MISSING_CODE = "secret_missing"
"""Code of the error of nodes that were not launched because a secret is not set here."""


class ProviderFailed(PlanapplyError):
    """Provider call that failed after all its retries; `error` is the last error.

    `is_response_lost` is True if an earlier attempt ended without an answer, so that the call may
    have succeeded, whatever the last error is.
    """

    def __init__(self, error: ProviderError, is_response_lost: bool = False) -> None:
        self.error, self.is_response_lost = error, is_response_lost
        super().__init__(error.summary, error.detail, code=error_code(error))


def error_code(error: ProviderError) -> str:
    """Return the code of a provider's error for programs, such as `cloud_capacity`."""
    if error.code in (MAX_COST_CODE, SECRET_MISSING_CODE):
        return error.code
    return f"cloud_{error.kind.value.replace('-', '_')}"


def call_plugin(plugin: Plugin, name: str, call: Callable[[], T]) -> T:
    """Return the result of a plug-in's own function called `name`; raises ProviderFailed."""
    try:
        return report_bugs(plugin.origin, name, call)
    except ProviderError as error:
        raise ProviderFailed(error) from error


def report_bugs(origin: str, name: str, call: Callable[[], T]) -> T:
    """Return the result of `call`, raising a ProviderError of kind PLUGIN_BUG for a plug-in's bug.

    A plug-in without an `origin` is planapply's own: its bugs are planapply's, and raised as they
    are.
    """
    try:
        return call()
    except (ProviderError, PlanapplyError):
        raise
    except Exception as error:
        if not origin:
            raise
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise ProviderError(
            ErrorKind.PLUGIN_BUG,
            f"{origin} failed in `{name}`: {text.rstrip(':')}",
            "This is a bug in that package; please report it to its maintainers.",
        ) from error
