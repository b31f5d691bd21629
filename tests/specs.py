"""What the tests of specs share: a provider, and a way to write and load a file."""

from pathlib import Path
from typing import Annotated

from pydantic import model_validator

from planapply.model.base import Model
from planapply.model.diagnostics import Diagnostic, PlanapplyError, Severity
from planapply.model.field_types import spec_key
from planapply.model.spec import Spec
from planapply.provider import Plugin, Provider
from planapply.specfile import load


class Settings(Model):
    """The `[provider]` of these tests."""

    folder: Annotated[str | None, spec_key("nothing", "/tmp/logs")] = None
    """Where logs go."""
    region: Annotated[str | None, spec_key("replacement", "eu-west-1")] = None
    """Where VMs are."""
    allow_from: tuple[str, ...] = ("me",)
    size: int | tuple[str, ...] = 1
    """Of two kinds."""


def _connect(settings: Settings) -> Provider:
    raise AssertionError("a spec is read without a provider")


LOCAL = Plugin("local", "processes", Settings, _connect, security="none")
CLOUD = Plugin(
    "cloud",
    "VMs",
    Settings,
    _connect,
    ignored_settings=frozenset({"create", "environment.docker"}),
    starter='[provider]\nregion = "eu-west-1"\n# folder = "/tmp/logs"\n',
)


class Account(Model):
    """The `[provider]` of a cloud that takes credentials."""

    secret: Annotated[str | None, spec_key("nothing", "env:SECRET")] = None
    """Its second half."""
    number: int = 0
    options: dict[str, str] = {}

    @model_validator(mode="after")
    def _no_credentials(self) -> "Account":
        for value in (self.secret, *self.options.values()):
            if value and not value.startswith("env:"):
                raise ValueError('a spec holds no credentials\nWrite "env:NAME".')
        return self


ACCOUNT = Plugin("account", "VMs", Account, _connect)


def find_plugin(name: str) -> Plugin:
    """As the catalog's."""
    for plugin in (LOCAL, CLOUD, ACCOUNT):
        if plugin.name == name:
            return plugin
    raise PlanapplyError(f"there is no provider `{name}`", "Did you mean `cloud`?")


def load_text(folder: Path, text: str, *overrides: str) -> tuple[Spec, list[Diagnostic]]:
    """The spec of this text, in `folder`/spec.toml."""
    path = folder / "spec.toml"
    path.write_bytes(text.encode())
    return load(path, find_plugin, overrides)


def format_problems(folder: Path, text: str, *overrides: str) -> str:
    """All that is wrong with it, one thing after the other, each with its place."""
    try:
        _, found = load_text(folder, text, *overrides)
    except PlanapplyError as error:
        found = list(error.diagnostics)
    return "\n".join(format_diagnostic(diagnostic, folder) for diagnostic in found)


def format_diagnostic(diagnostic: Diagnostic, folder: Path) -> str:
    """One diagnostic as text."""
    source, severity = diagnostic.source, diagnostic.severity
    lines = ["warning"] if severity is Severity.WARNING else []
    if source:
        lines += [f"line {source.line}, column {source.column}: {source.text}"]
    lines += [diagnostic.summary, *(f"  {line}" for line in diagnostic.detail.splitlines())]
    return "\n".join(lines).replace(f"{folder}/", "") + "\n"
