"""providers: what is installed, and whether it can be used."""

from planapply import catalog
from planapply.model.diagnostics import PlanapplyError
from planapply.provider import Plugin


def list_plugins() -> list[tuple[str, Plugin | str]]:
    """Each provider's name with its plug-in, or with why that can't be loaded."""
    found: list[tuple[str, Plugin | str]] = []
    for name in catalog.provider_names():
        try:
            found.append((name, catalog.load_plugin(name)))
        except PlanapplyError as error:
            found.append((name, error.diagnostics[0].summary))
    return found
