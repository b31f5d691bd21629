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
from planapply_libcloud.nested import get_path, merge, nest

GIB = 1 << 30
HOURS_PER_MONTH = 730
"""In a month, as clouds bill."""

Tags = dict[str, str]
Lookup = Callable[[str], Any]
"""From a name or id of the spec's to Libcloud's object."""


@dataclass(frozen=True)
class Lookups:
    """How `Driver.make_arguments` comes by Libcloud's objects."""

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
    tested_on: str = "not tested"
    """What was tested on what, for the docs."""
    starter: str = ""
    """The provider's part of a spec."""

    key_names: tuple[str, str] | None = None
    """Its constructor's words for key and secret; None: the first two arguments."""
    is_key_public: bool = False
    """`key` is a user's name or the like and may stand in a spec."""
    has_secret_file: bool = False
    """`secret` may be the path of a file."""
    has_sessions: bool = False
    """It logs in, and what it gets for that can end before the credentials do."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """For its constructor, unless the spec says otherwise."""
    identity: tuple[str, ...] = ()
    """Options that say whose cloud it is."""

    user_data: str = ""
    has_binary_user_data: bool = False
    """User data may be compressed; elsewhere it has to be text."""
    user_data_limit: int = 16384
    """Bytes that the cloud takes."""
    tags: str = ""
    """Where tags go; without, they are in the node's name."""
    tag_format: labels.TagFormat = labels.PAIRS
    zone: str = "location"
    """`location`: an object; another argument takes the zone's name. Empty: there are none."""
    needs_zone: bool = False
    spot: Mapping[str, Any] = field(default_factory=dict)
    disk: str = ""
    """Where the root disk's size goes, in GB."""
    token: str = ""
    fixed_arguments: Mapping[str, Any] = field(default_factory=dict)
    networks_argument: str = ""
    """The argument of `create` that has names or ids of networks."""
    list_arguments: tuple[str, ...] = ()
    """Arguments of `create` that take a list; of a text, the driver would take each letter."""
    required_arguments: Mapping[str, str] = field(default_factory=dict)
    """What `create` must have, and an example."""

    tags_path: str = "tags"
    size_path: str = ""
    zone_path: str = ""
    has_only_size_id: bool = False
    """A node tells its size's id only, which is not what people call it."""
    list_nodes_arguments: tuple[str, ...] = ()
    """Arguments of `create` that `list_nodes` takes, too."""
    max_name_length: int = 63

    parallel: int = 4
    consistency_delay: float = 60.0
    poll: float = 5.0
    rate: tuple[float, float] | None = None
    """Creates: at once, then a second."""
    is_deleted_when_off: bool = False
    """A VM that switches itself off is gone, and costs nothing more."""
    cost_when_off: str = "is paid for like one that runs"
    """What a VM costs that is switched off and not removed."""
    price_source: Literal["", "cloud", "libcloud"] = ""
    """Whose list `list_sizes` gives."""
    has_monthly_prices: bool = False
    has_writes_by_get: bool = False
    """The cloud's API changes things by GET."""
    is_destroyed_by_id: bool = True
    """`destroy_node` needs no more of a node than its id."""
    error_kinds: Mapping[str, ErrorKind] = field(default_factory=dict)
    """What the cloud says, after it has accepted a create, when no VM comes of it."""

    @property
    def has_tags(self) -> bool:
        """Whether they are anywhere but in the name."""
        return bool(self.tags)

    def node_name(self, request: LaunchRequest) -> str:
        """Of the VM; no other attempt, node or cluster has it."""
        name = labels.NodeName.from_tags(request.tags, request.names[0], request.token)
        return (
            name.format_short(self.max_name_length)
            if self.has_tags
            else name.format_full(self.max_name_length)
        )

    def make_arguments(
        self, request: LaunchRequest, create: Mapping[str, Any], lookups: Lookups
    ) -> Any:
        """Of `create_node`, whole; `create` is the spec's."""
        config, choice = request.config, request.choice
        arguments: dict[str, Any] = {"name": self.node_name(request)}
        if choice.size:
            arguments["size"] = lookups.size(choice.size)
        if config.image:
            arguments["image"] = lookups.image(config.image)
        if choice.zone and self.zone:
            by_name = self.zone != "location"
            arguments[self.zone] = choice.zone if by_name else lookups.location(choice.zone)
        if choice.spot:
            arguments = merge(arguments, self.spot)
        if config.disk and self.disk:
            arguments = merge(arguments, nest(self.disk, -(-config.disk // GIB)))
        if self.token:
            arguments[self.token] = request.token
        if self.user_data and request.user_data:
            data = (
                request.user_data
                if self.has_binary_user_data
                else labels.encode_script(request.user_data)
            )
            arguments = merge(arguments, nest(self.user_data, data))
        if self.tags:
            arguments = merge(arguments, nest(self.tags, self.tag_format.encode(request.tags)))
        given = dict(create)
        if self.networks_argument in given:
            given[self.networks_argument] = [
                lookups.network(name) for name in given[self.networks_argument]
            ]
        return merge(merge(self.fixed_arguments, given), arguments)

    def check_tags(self, tags: Mapping[str, str]) -> str:
        """What is wrong with these tags here; empty when nothing is."""
        if not self.has_tags:
            return "keeps no tags" if labels.user_tags(tags) else ""
        return self.tag_format.find_error(tags)

    def tags_of(self, node: Any) -> Tags:
        """Those of planapply's, empty for a node of somebody else's."""
        if self.has_tags:
            return self.tag_format.decode(get_path(node.extra, self.tags_path))
        name = labels.NodeName.parse(node.name or "")
        return name.tags if name else {}

    def size_of(self, node: Any) -> str | None:
        """The size's name, as far as the node tells."""
        found = get_path(node.extra, self.size_path) if self.size_path else node.size
        found = getattr(found, "id", found)
        return str(found).rpartition("/")[2] if found else None

    def zone_of(self, node: Any) -> str | None:
        """The zone's name, as far as the node tells."""
        found = get_path(node.extra, self.zone_path)
        found = getattr(found, "name", found)
        return str(found) if found else None

    def status_of(self, node: Any) -> str:
        """Libcloud's word for a node's state."""
        return str(node.state)

    def is_spot(self, node: Any) -> bool:
        """As far as the node tells."""
        return False

    def patch_driver(self, lib: Any) -> None:
        """Mend what a driver of Libcloud's does wrong, once it is made."""

    def find_account(self, lib: Any) -> dict[str, str]:
        """Whose cloud it is, where only the cloud can tell."""
        return {}

    def on_created(self, lib: Any, node: Any, name: str) -> None:
        """For a driver that forgets the name."""

    def list_nodes(
        self, lib: Any, tags: Mapping[str, str], create: Mapping[str, Any]
    ) -> Sequence[Any]:
        """All that may carry `tags`, in a number of calls that does not grow with theirs."""
        known = {key: create[key] for key in self.list_nodes_arguments if key in create}
        nodes: Sequence[Any] = lib.list_nodes(**known)
        return nodes

    def find_image(self, lib: Any, name: str) -> Any:
        """One image by id, or None to look through the list."""
        return None

    def list_sizes(self, lib: Any, zone: str | None) -> Sequence[Any]:
        """All of them."""
        sizes: Sequence[Any] = lib.list_sizes()
        return sizes

    def list_zones(self, lib: Any) -> Sequence[str]:
        """Those that may be named where a name is taken; empty: there is no telling."""
        return ()

    def list_networks(self, lib: Any) -> Sequence[Any]:
        """Those that names in `create` may stand for."""
        return ()

    def destroy(self, lib: Any, node: Any) -> None:
        """Ask for the end of a node, and of what was made for it."""
        lib.destroy_node(node)

    def clean_up_failed(self, lib: Any, name: str, create: Mapping[str, Any]) -> None:
        """Remove what a create has made that gave no node."""


def is_scheduler(tags: Mapping[str, str]) -> bool:
    """Whether this VM is the one whose address everybody needs."""
    return tags.get(TAG_GROUP) == SCHEDULER


__all__ = ["Driver", "LaunchRequest", "Lookups", "Tags", "is_scheduler"]
