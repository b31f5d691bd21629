"""Names of the spec's -> what Libcloud calls a size, an image, a location, a network."""

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from types import SimpleNamespace
from typing import Any

from planapply.provider import ErrorKind, ProviderError
from planapply_libcloud.client import Client

MOST_SHOWN = 8


class Catalog:
    """Each list is asked for once in a process."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def sizes(self, zone: str | None = None) -> Sequence[Any]:
        """All sizes, in that zone where the cloud lists them by zone."""
        return self._list_cached(
            f"sizes {zone}", lambda lib: self.client.driver.list_sizes(lib, zone)
        )

    def size(self, name: str, zone: str | None = None) -> Any:
        """By id or name; raises ProviderError with near ones."""
        return _pick("size", name, self.sizes(zone))

    def image(self, name: str) -> Any:
        """By id, name or slug; raises ProviderError with near ones."""

        def fetch() -> Any:
            with self.client.borrow_driver() as lib:
                return self.client.driver.find_image(lib, name)

        found = self.client.get_cached(f"image {name}", fetch)
        return found or _pick(
            "image", name, self._list_cached("images", lambda lib: lib.list_images())
        )

    def location(self, name: str) -> Any:
        """By id or name; raises ProviderError with near ones."""
        return _pick("zone", name, self._list_cached("locations", lambda lib: lib.list_locations()))

    def zone(self, name: str) -> None:
        """Raises ProviderError with near ones for one that is not there, as far as the cloud tells."""
        if self.client.driver.zone == "location":
            self.location(name)
            return
        try:
            found = self._list_cached("zones", self.client.driver.list_zones)
        except ProviderError as error:
            if error.kind not in (ErrorKind.REJECTED, ErrorKind.UNAUTHORIZED):
                raise
            return  # not everybody may ask
        if found:
            _pick("zone", name, [SimpleNamespace(id=zone, name=zone) for zone in found])

    def network(self, name: str) -> Any:
        """By id or name; raises ProviderError with near ones."""
        return _pick(
            "network", name, self._list_cached("networks", self.client.driver.list_networks)
        )

    def _list_cached(self, key: str, fetch: Callable[[Any], Iterable[Any]]) -> Sequence[Any]:
        def fetch_list() -> Sequence[Any]:
            with self.client.borrow_driver() as lib:
                return list(fetch(lib))

        return self.client.get_cached(key, fetch_list)


def list_names(item: Any) -> list[str]:
    """What it may be called by."""
    extra = (getattr(item, "extra", None) or {}) if isinstance(item, object) else {}
    names = [item.id, item.name, extra.get("slug") if isinstance(extra, dict) else None]
    return [str(name) for name in names if name not in (None, "")]


def _pick(kind: str, name: str, candidates: Sequence[Any]) -> Any:
    by_id = [candidate for candidate in candidates if str(candidate.id) == name]
    matching = by_id or [candidate for candidate in candidates if name in list_names(candidate)]
    ids = {str(candidate.id) for candidate in matching}
    if len(ids) > 1 and kind == "image":
        raise ProviderError(
            ErrorKind.REJECTED,
            f"{len(ids)} images are called {name!r}",
            f"Name one by its id: {', '.join(sorted(ids)[:MOST_SHOWN])}.",
        )
    if matching:
        return matching[0]
    known = sorted({list_names(candidate)[-1] for candidate in candidates if list_names(candidate)})
    matches = get_close_matches(
        name, {text for candidate in candidates for text in list_names(candidate)}, 3
    )
    if matches:
        detail = f"Did you mean {', '.join(matches)}?"
    else:
        shown = ", ".join(known[:MOST_SHOWN])
        more = f", and {len(known) - MOST_SHOWN} more" if len(known) > MOST_SHOWN else ""
        detail = f"There are {shown}{more}." if known else "The cloud shows none to this account."
    raise ProviderError(ErrorKind.REJECTED, f"there is no {kind} {name!r}", detail)
