"""providers: the installed plug-ins."""

from planapply import catalog
from planapply.model.diagnostics import PlanapplyError
from planapply.provider import Plugin


def list_plugins() -> list[tuple[str, Plugin | str]]:
    """Return each provider's name with its plug-in, or with the reason why it cannot be loaded."""
    found: list[tuple[str, Plugin | str]] = []
    for name in catalog.provider_names():
        try:
            found.append((name, catalog.load_plugin(name)))
        except PlanapplyError as error:
            found.append((name, error.diagnostics[0].summary))
    return found
