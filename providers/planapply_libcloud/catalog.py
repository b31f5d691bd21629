"""Look-up of Libcloud's sizes, images, locations, and networks by the names in a spec."""

from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

from planapply.provider import ErrorKind, ProviderError
from planapply.providerkit import rejection, suggest
from planapply_libcloud.client import Client

MAX_SHOWN = 8


class Catalog:
    """The cloud's lists, each requested once."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def sizes(self, zone: str | None = None) -> Sequence[Any]:
        """Return all sizes; in that zone, if the cloud lists them by zone."""
        return self._list_cached(
            f"sizes {zone}", lambda lib: self.client.driver.list_sizes(lib, zone)
        )

    def size(self, name: str, zone: str | None = None) -> Any:
        """Return the size with that ID or name; raise a rejected ProviderError if there is none."""
        return _pick("size", name, self.sizes(zone))

    def image(self, name: str) -> Any:
        """Return the image with that ID, name, or slug; raise a rejected ProviderError if there is none."""

        def fetch() -> Any:
            with self.client.borrow_driver() as lib:
                return self.client.driver.find_image(lib, name)

        found = self.client.cache.get(f"image {name}", fetch)
        return found or _pick(
            "image", name, self._list_cached("images", lambda lib: lib.list_images())
        )

    def location(self, name: str) -> Any:
        """Return the location with that ID or name; raise a rejected ProviderError if there is none."""
        return _pick("zone", name, self._list_cached("locations", lambda lib: lib.list_locations()))

    def zone(self, name: str) -> None:
        """Raise a rejected ProviderError if the cloud reports its zones and has none of that name."""
        if self.client.driver.zone == "location":
            self.location(name)
            return
        try:
            found = self._list_cached("zones", self.client.driver.list_zones)
        except ProviderError as error:
            if error.kind not in (ErrorKind.REJECTED, ErrorKind.UNAUTHORIZED):
                raise
            return  # not every account may list zones
        if found:
            _pick("zone", name, [SimpleNamespace(id=zone, name=zone) for zone in found])

    def network(self, name: str) -> Any:
        """Return the network with that ID or name; raise a rejected ProviderError if there is none."""
        return _pick(
            "network", name, self._list_cached("networks", self.client.driver.list_networks)
        )

    def _list_cached(self, key: str, fetch: Callable[[Any], Iterable[Any]]) -> Sequence[Any]:
        def fetch_list() -> Sequence[Any]:
            with self.client.borrow_driver() as lib:
                return list(fetch(lib))

        return self.client.cache.get(key, fetch_list)


def list_names(item: Any) -> list[str]:
    """Return the names that a spec may use for an item; the last is the one to show."""
    extra = (getattr(item, "extra", None) or {}) if isinstance(item, object) else {}
    names = [item.id, item.name, extra.get("slug") if isinstance(extra, dict) else None]
    return [str(name) for name in names if name not in (None, "")]


def _pick(kind: str, name: str, candidates: Sequence[Any]) -> Any:
    by_id = [candidate for candidate in candidates if str(candidate.id) == name]
    matching = by_id or [candidate for candidate in candidates if name in list_names(candidate)]
    ids = {str(candidate.id) for candidate in matching}
    if len(ids) > 1 and kind == "image":
        raise rejection(
            f"{len(ids)} images have the name {name!r}",
            f"Use the ID of one of them: {', '.join(sorted(ids)[:MAX_SHOWN])}.",
        )
    if matching:
        return matching[0]
    known = sorted({list_names(candidate)[-1] for candidate in candidates if list_names(candidate)})
    more = f", and {len(known) - MAX_SHOWN} more" if len(known) > MAX_SHOWN else ""
    listed = f"Choose one of: {', '.join(known[:MAX_SHOWN])}{more}."
    names = [text for candidate in candidates for text in list_names(candidate)]
    raise rejection(
        f"there is no {kind} {name!r}",
        suggest(name, names, listed if known else "The cloud shows none to this account."),
    )
