"""Errors and warnings for people: collected anywhere, rendered once, at the edge."""

import re
from enum import StrEnum

from pydantic import field_validator

from planapply.model.base import Model
from planapply.model.secrets import mask_urls

NOT_RETIRED = "not_retired"
"""Code of the error about a node that stays, since its workers could not be retired."""
_MAX_SUMMARY = 1000
_MAX_DETAIL = 20_000
_MAX_WORD = 1000


class Severity(StrEnum):
    """The severity of a diagnostic: an error stops the command, the others do not."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Source(Model):
    """A position in a file: `line` and `column` count from 1, `text` is the line itself."""

    file: str
    line: int
    column: int = 1
    text: str = ""


class Diagnostic(Model):
    """An error or a warning: what happened, where, and what to do."""

    severity: Severity = Severity.ERROR
    summary: str
    """One line that says what happened, without a period."""
    detail: str = ""
    """Full sentences that say why, and what to do next."""
    source: Source | None = None
    code: str = ""
    """The problem for programs, such as `state_locked`; empty for a warning that needs no code."""

    @field_validator("summary", "detail")
    @classmethod
    def _mask(cls, text: str) -> str:
        # Whichever part of the program wrote it, or quoted an SDK.
        return mask_urls(text)

    @field_validator("summary")
    @classmethod
    def _shorten_summary(cls, text: str) -> str:
        # It repeats what was given, of any length.
        return text if len(text) <= _MAX_SUMMARY else f"{text[:_MAX_SUMMARY]}…"

    @field_validator("detail")
    @classmethod
    def _shorten_detail(cls, text: str) -> str:
        if len(text) <= _MAX_SUMMARY:
            return text
        shorter = re.sub(
            r"\S+", lambda word: word[0] if len(word[0]) <= _MAX_WORD else f"{word[0][:200]}…", text
        )
        return shorter if len(shorter) <= _MAX_DETAIL else f"{shorter[:_MAX_DETAIL]}…"

    def __str__(self) -> str:
        source = self.source
        place = f"{source.file}:{source.line}:{source.column}: " if source else ""
        return f"{place}{self.summary}\n{self.detail}".rstrip("\n")


class PlanapplyError(Exception):
    """An error that a user can cause; the command line prints its diagnostics and exits with 1.

    Raise it with one summary and detail, or with `diagnostics` if several things are wrong at once.
    `code` is for programs; by default, it is that of the class.
    """

    code = "error"

    def __init__(
        self,
        summary: str = "",
        detail: str = "",
        *,
        diagnostics: tuple[Diagnostic, ...] = (),
        code: str = "",
    ) -> None:
        self.code = code or self.code
        self.diagnostics = tuple(
            d if d.code else d.model_copy(update={"code": self.code})
            for d in diagnostics or (Diagnostic(summary=summary, detail=detail),)
        )
        super().__init__("\n".join(str(diagnostic) for diagnostic in self.diagnostics))


def warning(summary: str, detail: str = "", source: Source | None = None) -> Diagnostic:
    """Return a diagnostic that does not stop the command."""
    return Diagnostic(severity=Severity.WARNING, summary=summary, detail=detail, source=source)


def note(summary: str, detail: str = "") -> Diagnostic:
    """Return a diagnostic about something that is as intended, but worth knowing."""
    return Diagnostic(severity=Severity.NOTE, summary=summary, detail=detail)
