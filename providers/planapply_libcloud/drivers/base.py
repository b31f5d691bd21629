"""What one of Libcloud's drivers is like: how its `create_node` and its nodes have to be read.

An instance is one line of the table; what a table can't say, a class of the same folder does. None
of them imports Libcloud before it is used.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from planapply.model.names import SCHEDULER
from planapply.model.node import TAG_GROUP
from planapply.provider import ErrorKind, LaunchRequest
from planapply_libcloud import labels
from planapply_libcloud.nested import at, merged, nest

GIB = 1 << 30
HOURS = 730
"""In a month, as clouds bill."""

Tags = dict[str, str]
Lookup = Callable[[str], Any]
"""From a name or id of the spec's to Libcloud's object."""


@dataclass(frozen=True)
class Catalog:
    """How `Driver.arguments` comes by Libcloud's objects."""

    size: Lookup
    image: Lookup
    location: Lookup
    network: Lookup


@dataclass(frozen=True)
class Driver:
    """With nothing said, what every driver can do: nodes with a size and an image, and a name.

    Dotted words are places in `create_node`'s arguments or in a node's `extra`.
    """

    name: str
    """Libcloud's for it."""
    title: str = ""
    """The cloud's own."""
    proof: str = "not tested"
    """What was tested on what, for the docs."""
    starter: str = ""
    """The provider's part of a spec."""

    key_names: tuple[str, str] | None = None
    """Its constructor's words for key and secret; None: the first two arguments."""
    public_key: bool = False
    """`key` is a user's name or the like and may stand in a spec."""
    secret_file: bool = False
    """`secret` may be the path of a file."""
    has_sessions: bool = False
    """It logs in, and what it gets for that can end before the credentials do."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """For its constructor, unless the spec says otherwise."""
    identity: tuple[str, ...] = ()
    """Options that say whose cloud it is."""

    user_data: str = ""
    takes_bytes: bool = False
    """User data may be compressed; elsewhere it has to be text."""
    user_data_limit: int = 16384
    """Bytes that the cloud takes."""
    tags: str = ""
    """Where tags go; without, they are in the node's name."""
    tag_form: labels.Form = labels.PAIRS
    zone: str = "location"
    """`location`: an object; another argument takes the zone's name. Empty: there are none."""
    needs_zone: bool = False
    spot: Mapping[str, Any] = field(default_factory=dict)
    disk: str = ""
    """Where the root disk's size goes, in GB."""
    token: str = ""
    always: Mapping[str, Any] = field(default_factory=dict)
    named_networks: str = ""
    """The argument of `create` that has names or ids of networks."""
    lists: tuple[str, ...] = ()
    """Arguments of `create` that take a list; of a text, the driver would take each letter."""
    requires: Mapping[str, str] = field(default_factory=dict)
    """What `create` must have, and an example."""

    seen_tags: str = "tags"
    seen_size: str = ""
    seen_zone: str = ""
    sizes_by_id: bool = False
    """A node tells its size's id only, which is not what people call it."""
    listing: tuple[str, ...] = ()
    """Arguments of `create` that `list_nodes` takes, too."""
    longest_name: int = 63

    parallel: int = 4
    settle: float = 60.0
    poll: float = 5.0
    rate: tuple[float, float] | None = None
    """Creates: at once, then a second."""
    ends_when_off: bool = False
    """A VM that switches itself off is gone, and costs nothing more."""
    off_costs: str = "is paid for like one that runs"
    """What a VM costs that is switched off and not removed."""
    prices: Literal["", "cloud", "libcloud"] = ""
    """Whose list `list_sizes` gives."""
    monthly: bool = False
    get_writes: bool = False
    """The cloud's API changes things by GET."""
    destroys_by_id: bool = True
    """`destroy_node` needs no more of a node than its id."""
    definite: Mapping[str, ErrorKind] = field(default_factory=dict)
    """What the cloud says, after it has accepted a create, when no VM comes of it."""

    @property
    def keeps_tags(self) -> bool:
        """Whether they are anywhere but in the name."""
        return bool(self.tags)

    def node_name(self, request: LaunchRequest) -> str:
        """Of the VM; no other attempt, node or cluster has it."""
        name = labels.NodeName.of(request.tags, request.names[0], request.token)
        return name.short(self.longest_name) if self.keeps_tags else name.whole(self.longest_name)

    def arguments(self, request: LaunchRequest, create: Mapping[str, Any], catalog: Catalog) -> Any:
        """Of `create_node`, whole; `create` is the spec's."""
        config, choice = request.config, request.choice
        own: dict[str, Any] = {"name": self.node_name(request)}
        if choice.size:
            own["size"] = catalog.size(choice.size)
        if config.image:
            own["image"] = catalog.image(config.image)
        if choice.zone and self.zone:
            by_name = self.zone != "location"
            own[self.zone] = choice.zone if by_name else catalog.location(choice.zone)
        if choice.spot:
            own = merged(own, self.spot)
        if config.disk and self.disk:
            own = merged(own, nest(self.disk, -(-config.disk // GIB)))
        if self.token:
            own[self.token] = request.token
        if self.user_data and request.user_data:
            data = request.user_data if self.takes_bytes else labels.as_text(request.user_data)
            own = merged(own, nest(self.user_data, data))
        if self.tags:
            own = merged(own, nest(self.tags, self.tag_form.written(request.tags)))
        given = dict(create)
        if self.named_networks in given:
            given[self.named_networks] = [
                catalog.network(name) for name in given[self.named_networks]
            ]
        return merged(merged(self.always, given), own)

    def check_tags(self, tags: Mapping[str, str]) -> str:
        """What is wrong with these tags here; empty when nothing is."""
        if not self.keeps_tags:
            return "keeps no tags" if labels.user_tags(tags) else ""
        return self.tag_form.wrong(tags)

    def tags_of(self, node: Any) -> Tags:
        """Those of planapply's, empty for a node of somebody else's."""
        if self.keeps_tags:
            return self.tag_form.read(at(node.extra, self.seen_tags))
        name = labels.NodeName.read(node.name or "")
        return name.tags if name else {}

    def size_of(self, node: Any) -> str | None:
        """The size's name, as far as the node tells."""
        found = at(node.extra, self.seen_size) if self.seen_size else node.size
        found = getattr(found, "id", found)
        return str(found).rpartition("/")[2] if found else None

    def zone_of(self, node: Any) -> str | None:
        """The zone's name, as far as the node tells."""
        found = at(node.extra, self.seen_zone)
        found = getattr(found, "name", found)
        return str(found) if found else None

    def status_of(self, node: Any) -> str:
        """Libcloud's word for a node's state."""
        return str(node.state)

    def is_spot(self, node: Any) -> bool:
        """As far as the node tells."""
        return False

    def fit(self, lib: Any) -> None:
        """Mend what a driver of Libcloud's does wrong, once it is made."""

    def account(self, lib: Any) -> dict[str, str]:
        """Whose cloud it is, where only the cloud can tell."""
        return {}

    def created(self, lib: Any, node: Any, name: str) -> None:
        """For a driver that forgets the name."""

    def nodes(self, lib: Any, tags: Mapping[str, str], create: Mapping[str, Any]) -> Sequence[Any]:
        """All that may carry `tags`, in a number of calls that does not grow with theirs."""
        known = {key: create[key] for key in self.listing if key in create}
        nodes: Sequence[Any] = lib.list_nodes(**known)
        return nodes

    def image(self, lib: Any, name: str) -> Any:
        """One image by id, or None to look through the list."""
        return None

    def sizes(self, lib: Any, zone: str | None) -> Sequence[Any]:
        """All of them."""
        sizes: Sequence[Any] = lib.list_sizes()
        return sizes

    def zones(self, lib: Any) -> Sequence[str]:
        """Those that may be named where a name is taken; empty: there is no telling."""
        return ()

    def networks(self, lib: Any) -> Sequence[Any]:
        """Those that names in `create` may stand for."""
        return ()

    def destroy(self, lib: Any, node: Any) -> None:
        """Ask for the end of a node, and of what was made for it."""
        lib.destroy_node(node)

    def failed(self, lib: Any, name: str, create: Mapping[str, Any]) -> None:
        """Remove what a create has made that gave no node."""


def is_scheduler(tags: Mapping[str, str]) -> bool:
    """Whether this VM is the one whose address everybody needs."""
    return tags.get(TAG_GROUP) == SCHEDULER


__all__ = ["Catalog", "Driver", "LaunchRequest", "Tags", "is_scheduler"]
