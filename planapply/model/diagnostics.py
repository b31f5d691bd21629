"""What is said to a person: collected anywhere, rendered once, at the edge."""

from enum import StrEnum

from planapply.model.base import Model


class Severity(StrEnum):
    """An error stops the command; a warning does not."""

    ERROR = "error"
    WARNING = "warning"


class Source(Model):
    """A place in a file: `line` and `column` count from 1, `text` is the line itself."""

    file: str
    line: int
    column: int = 1
    text: str = ""


class Diagnostic(Model):
    """One thing that is wrong or worth knowing: what, where, and what to do about it."""

    severity: Severity = Severity.ERROR
    summary: str
    """What happened, in one line, without a full stop."""
    detail: str = ""
    """What to do next, or why; whole sentences."""
    source: Source | None = None

    def __str__(self) -> str:
        source = self.source
        place = f"{source.file}:{source.line}:{source.column}: " if source else ""
        return f"{place}{self.summary}\n{self.detail}".rstrip("\n")


class PlanapplyError(Exception):
    """Anything that a user can provoke; the command line prints its diagnostics and exits 1.

    Raise it with one summary and detail, or with `diagnostics` where several things are wrong at once.
    """

    def __init__(
        self, summary: str = "", detail: str = "", *, diagnostics: tuple[Diagnostic, ...] = ()
    ) -> None:
        self.diagnostics = diagnostics or (Diagnostic(summary=summary, detail=detail),)
        super().__init__("\n".join(str(diagnostic) for diagnostic in self.diagnostics))


def warning(summary: str, detail: str = "", source: Source | None = None) -> Diagnostic:
    """A diagnostic that stops nothing."""
    return Diagnostic(severity=Severity.WARNING, summary=summary, detail=detail, source=source)
