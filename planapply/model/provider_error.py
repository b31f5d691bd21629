"""Failures of provider calls, by what the fleet does about them."""

from collections.abc import Iterable
from enum import StrEnum

from planapply.model.secrets import mask_urls, mask_values


class ErrorKind(StrEnum):
    """Kind of a failure, which decides what the fleet does next."""

    THROTTLED = "throttled"
    """Too many requests; nothing was changed. The fleet tries again later."""
    UNAVAILABLE = "unavailable"
    """The service or resource is not available now; nothing was changed. The fleet tries again later."""
    CAPACITY = "capacity"
    """The cloud has no capacity left here. The fleet tries the next size, zone, or market."""
    QUOTA = "quota"
    """The account's quota is exhausted. The fleet tries the next size, zone, or market."""
    UNAUTHORIZED = "unauthorized"
    """The credentials are invalid or lack a permission. The fleet reports it."""
    REJECTED = "rejected"
    """The request is invalid. The fleet reports it."""
    TOKEN_SPENT = "spent"
    """The VMs of the token were terminated, or the token was used for another request: only a new
    token can succeed.
    """
    UNKNOWN = "unknown"
    """The answer was lost: the call may have succeeded. Launch again with the same token, or look
    for the batch.
    """
    PLUGIN_BUG = "plugin-bug"
    """A plug-in raised something other than a ProviderError; only planapply itself uses this kind.
    The call may have succeeded, and is not repeated.
    """

    @property
    def may_have_succeeded(self) -> bool:
        """Whether the call may have had its effect although it failed."""
        return self in (ErrorKind.UNKNOWN, ErrorKind.PLUGIN_BUG)


class ProviderError(Exception):
    """Failure of a provider call that the provider understands.

    `summary` states the cause and `detail` what to do, in whole sentences; neither may contain a
    secret. `code` is the cloud's own error code, such as `InsufficientInstanceCapacity`, or one
    that the provider defines; empty if there is none. Callers compare `kind` and `code`, never the
    texts.
    """

    def __init__(self, kind: ErrorKind, summary: str, detail: str = "", *, code: str = "") -> None:
        self.kind, self.code = kind, code
        self.summary, self.detail = mask_urls(summary), mask_urls(detail)
        super().__init__(f"{self.summary}\n{self.detail}".rstrip("\n"))

    def mask(self, secrets: Iterable[str]) -> "ProviderError":
        """Return this error without these secrets, in whatever encoding its texts have them."""
        secrets = list(secrets)
        texts = [mask_values(text, secrets) for text in (self.summary, self.detail)]
        return type(self)(self.kind, *texts, code=self.code)
