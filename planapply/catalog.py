"""Provider plug-ins, found through entry points and loaded when they are first used."""

from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from planapply.model.diagnostics import PlanapplyError
from planapply.provider import Plugin

GROUP = "planapply.providers"


@cache
def _entries() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        # planapply's own win, so that no other package can replace one of them.
        if entry.name not in found or _package_name(entry) == "planapply":
            found[entry.name] = entry
    return found


def provider_names() -> list[str]:
    """Return the names of all installed providers, including those that cannot be imported."""
    return sorted(_entries())


def load_plugin(name: str) -> Plugin:
    """Return the plug-in with this name.

    Raises PlanapplyError if there is none, and if it cannot be imported.
    """
    entry = _entries().get(name)
    if entry is None:
        from difflib import get_close_matches  # rarely needed

        suggestions = get_close_matches(name, _entries(), 1)
        hint = f"Did you mean {suggestions[0]!r}? " if suggestions else ""
        raise PlanapplyError(
            f"unknown provider {name!r}",
            f"{hint}Installed: {', '.join(provider_names()) or 'none'}.",
        )
    try:
        loaded = entry.load()
    except (Exception, SystemExit) as error:  # an import may raise anything
        raise PlanapplyError(
            f"cannot import the provider {name!r}: {type(error).__name__}: {error}",
            f"The provider is {entry.value} of the package {_package_name(entry)}. Reinstall the package, "
            "or use another provider.",
        ) from error
    if not isinstance(loaded, Plugin):
        raise PlanapplyError(
            f"cannot use the provider {name!r}: it is not a planapply plug-in",
            f"{entry.value} of the package {_package_name(entry)} must be a planapply.provider.Plugin; "
            "please report this to the package's maintainers.",
        )
    if _package_name(entry) == "planapply":
        return loaded
    origin = f"the provider {entry.name!r} ({entry.value} of the package {_package_name(entry)})"
    return replace(loaded, origin=origin)


def _package_name(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "?"
