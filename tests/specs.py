"""A provider, and functions that write and load a spec, for the tests of specs."""

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
    """Folder of the logs."""
    region: Annotated[str | None, spec_key("replacement", "eu-west-1")] = None
    """Zone of the VMs."""
    allow_from: tuple[str, ...] = ("me",)
    size: int | tuple[str, ...] = 1
    """A value of one of two types."""


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
    """The `[provider]` of a cloud that needs credentials."""

    secret: Annotated[str | None, spec_key("nothing", "env:SECRET")] = None
    """The second part of the credentials."""
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
    """Return the plug-in with this name, like the catalog."""
    for plugin in (LOCAL, CLOUD, ACCOUNT):
        if plugin.name == name:
            return plugin
    raise PlanapplyError(f"there is no provider `{name}`", "Did you mean `cloud`?")


def load_text(folder: Path, text: str, *overrides: str) -> tuple[Spec, list[Diagnostic]]:
    """Load a spec with this text, written to `folder`/spec.toml."""
    path = folder / "spec.toml"
    path.write_bytes(text.encode())
    return load(path, find_plugin, overrides)


def format_problems(folder: Path, text: str, *overrides: str) -> str:
    """Return all errors of a spec as text, each with its position."""
    try:
        _, found = load_text(folder, text, *overrides)
    except PlanapplyError as error:
        found = list(error.diagnostics)
    return "\n".join(format_diagnostic(diagnostic, folder) for diagnostic in found)


def format_diagnostic(diagnostic: Diagnostic, folder: Path) -> str:
    """Return a diagnostic as text."""
    source, severity = diagnostic.source, diagnostic.severity
    lines = ["warning"] if severity is Severity.WARNING else []
    if source:
        lines += [f"line {source.line}, column {source.column}: {source.text}"]
    lines += [diagnostic.summary, *(f"  {line}" for line in diagnostic.detail.splitlines())]
    return "\n".join(lines).replace(f"{folder}/", "") + "\n"
