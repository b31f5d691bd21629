"""Entry points -> provider plug-ins, loaded on first use."""

from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from planapply.model.diagnostics import PlanapplyError
from planapply.provider import Plugin

GROUP = "planapply.providers"


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
    if _package_name(entry) == "planapply":
        return loaded
    origin = f"the provider {entry.name!r} ({entry.value} of the package {_package_name(entry)})"
    return replace(loaded, origin=origin)


def _package_name(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "?"
