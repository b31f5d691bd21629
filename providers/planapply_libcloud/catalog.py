"""Names of the spec's -> what Libcloud calls a size, an image, a location, a network."""

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from types import SimpleNamespace
from typing import Any

from planapply.provider import ErrorKind, ProviderError
from planapply_libcloud.client import Client

MOST_SHOWN = 8


class Names:
    """Each list is asked for once in a process."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def sizes(self, zone: str | None = None) -> Sequence[Any]:
        """All sizes, in that zone where the cloud lists them by zone."""
        return self._list(f"sizes {zone}", lambda lib: self.client.driver.sizes(lib, zone))

    def size(self, name: str, zone: str | None = None) -> Any:
        """By id or name; raises ProviderError with near ones."""
        return _pick("size", name, self.sizes(zone))

    def image(self, name: str) -> Any:
        """By id, name or slug; raises ProviderError with near ones."""

        def ask() -> Any:
            with self.client.asking() as lib:
                return self.client.driver.image(lib, name)

        found = self.client.remember(f"image {name}", ask)
        return found or _pick("image", name, self._list("images", lambda lib: lib.list_images()))

    def location(self, name: str) -> Any:
        """By id or name; raises ProviderError with near ones."""
        return _pick("zone", name, self._list("locations", lambda lib: lib.list_locations()))

    def zone(self, name: str) -> None:
        """Raises ProviderError with near ones for one that is not there, as far as the cloud tells."""
        if self.client.driver.zone == "location":
            self.location(name)
            return
        try:
            found = self._list("zones", self.client.driver.zones)
        except ProviderError as error:
            if error.kind not in (ErrorKind.REJECTED, ErrorKind.UNAUTHORIZED):
                raise
            return  # not everybody may ask
        if found:
            _pick("zone", name, [SimpleNamespace(id=zone, name=zone) for zone in found])

    def network(self, name: str) -> Any:
        """By id or name; raises ProviderError with near ones."""
        return _pick("network", name, self._list("networks", self.client.driver.networks))

    def _list(self, what: str, ask: Callable[[Any], Iterable[Any]]) -> Sequence[Any]:
        def call() -> Sequence[Any]:
            with self.client.asking() as lib:
                return list(ask(lib))

        return self.client.remember(what, call)


def words(found: Any) -> list[str]:
    """What it may be called by."""
    slug = (getattr(found, "extra", None) or {}) if isinstance(found, object) else {}
    names = [found.id, found.name, slug.get("slug") if isinstance(slug, dict) else None]
    return [str(name) for name in names if name not in (None, "")]


def _pick(what: str, name: str, among: Sequence[Any]) -> Any:
    by_id = [found for found in among if str(found.id) == name]
    matching = by_id or [found for found in among if name in words(found)]
    ids = {str(found.id) for found in matching}
    if len(ids) > 1 and what == "image":
        raise ProviderError(
            ErrorKind.REJECTED,
            f"{len(ids)} images are called {name!r}",
            f"Name one by its id: {', '.join(sorted(ids)[:MOST_SHOWN])}.",
        )
    if matching:
        return matching[0]
    known = sorted({words(found)[-1] for found in among if words(found)})
    near = get_close_matches(name, {word for found in among for word in words(found)}, 3)
    if near:
        detail = f"Did you mean {', '.join(near)}?"
    else:
        shown = ", ".join(known[:MOST_SHOWN])
        more = f", and {len(known) - MOST_SHOWN} more" if len(known) > MOST_SHOWN else ""
        detail = f"There are {shown}{more}." if known else "The cloud shows none to this account."
    raise ProviderError(ErrorKind.REJECTED, f"there is no {what} {name!r}", detail)
