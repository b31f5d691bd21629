"""Entry points -> provider plug-ins, loaded on first use."""

from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from functools import cache, wraps
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, TypeVar

from planapply import provider as port
from planapply.model.diagnostics import PlanapplyError
from planapply.provider import Limits, Plugin, PluginBug, ProviderError

T = TypeVar("T")
GROUP = "planapply.providers"
PORT_METHODS = {
    name
    for kind in vars(port).values()
    if Protocol in getattr(kind, "__mro__", ())
    for name in vars(kind)
    if not name.startswith("_")
} - {"limits"}
"""All that can be asked of a provider."""


@cache
def _entries() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        # Ours win: nobody's package takes the place of a provider that comes with planapply.
        if entry.name not in found or _package_name(entry) == "planapply":
            found[entry.name] = entry
    return found


def provider_names() -> list[str]:
    """The names of all installed providers, loadable or not."""
    return sorted(_entries())


def load_plugin(name: str) -> Plugin:
    """The plug-in of that name.

    Raises PlanapplyError for an unknown name, and for a plug-in that can't be imported.
    """
    entry = _entries().get(name)
    if entry is None:
        suggestions = get_close_matches(name, _entries(), 1)
        hint = f"Did you mean {suggestions[0]!r}? " if suggestions else ""
        raise PlanapplyError(
            f"there is no provider {name!r}",
            f"{hint}Installed: {', '.join(provider_names()) or 'none'}.",
        )
    try:
        loaded = entry.load()
    except (Exception, SystemExit) as error:  # it may fail in any way when it is imported
        raise PlanapplyError(
            f"the provider {name!r} can't be imported: {type(error).__name__}: {error}",
            f"It is {entry.value} of the package {_package_name(entry)}; install it again, or without "
            "it choose another provider.",
        ) from error
    if not isinstance(loaded, Plugin):
        raise PlanapplyError(
            f"the provider {name!r} is no planapply plug-in",
            f"{entry.value} of the package {_package_name(entry)} must be a planapply.provider.Plugin.",
        )
    # A bug in one of ours is a bug in planapply.
    return loaded if _package_name(entry) == "planapply" else _guard_plugin(loaded, entry)


def _guard_plugin(plugin: Plugin, entry: EntryPoint) -> Plugin:
    """The plug-in, which raises a PluginBug in place of what it should not raise."""
    description = (
        f"the provider {entry.name!r} ({entry.value} of the package {_package_name(entry)})"
    )

    def guard(call: Callable[..., T], name: str) -> Callable[..., T]:
        @wraps(call)
        def guarded(*arguments: Any, **options: Any) -> T:
            try:
                return call(*arguments, **options)
            except (ProviderError, PlanapplyError):
                raise
            except Exception as error:
                text = " ".join(f"{type(error).__name__}: {error}".split())
                raise PluginBug(f"{description} failed in `{name}`: {text.rstrip(':')}") from error

        return guarded

    def connect(settings: Any) -> Any:
        return _GuardedProvider(guard(plugin.connect, "connect")(settings), guard)

    starter = plugin.starter
    return replace(
        plugin,
        connect=connect,
        starter=guard(starter, "starter") if callable(starter) else starter,
    )


class _GuardedProvider:
    """A provider with each of its calls watched; it has the capabilities that the provider has."""

    def __init__(self, provider: Any, guard: Callable[..., Callable[..., Any]]) -> None:
        self._provider = provider
        for name in PORT_METHODS:
            if hasattr(provider, name):
                setattr(self, name, guard(getattr(provider, name), name))

    @property
    def limits(self) -> Limits:
        limits: Limits = self._provider.limits
        return limits


def _package_name(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "?"
