"""Description of one of Libcloud's drivers: its `create_node`, its nodes, and its limits.

An instance is one entry of the table; what an entry cannot express is a subclass in this folder. No
module here imports Libcloud before it is used.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from planapply.provider import ErrorKind, LaunchRequest
from planapply.providerkit import GIB, SCHEDULER, TAG_GROUP, user_tags
from planapply_libcloud import labels
from planapply_libcloud.nested import get_path, merge, nest

HOURS_PER_MONTH = 730
"""Hours in a month, as clouds bill."""

Tags = dict[str, str]
Lookup = Callable[[str], Any]
"""Function from a name or ID in the spec to Libcloud's object."""


@dataclass(frozen=True)
class Lookups:
    """Functions that look up Libcloud's objects for `Driver.make_arguments`."""

    size: Lookup
    image: Lookup
    location: Lookup
    network: Lookup


@dataclass(frozen=True)
class Driver:
    """One driver; the defaults hold for all drivers: nodes with a name, a size, and an image.

    Dotted words are paths in `create_node`'s arguments or in a node's `extra`.
    """

    name: str
    """Libcloud's name of the driver."""
    title: str = ""
    """Name of the cloud."""
    tested_on: str = "not tested"
    """Test environment of the driver, for the docs."""
    starter: str = ""
    """The provider's part of a starter spec."""

    key_names: tuple[str, str] | None = None
    """The constructor's keywords for key and secret; None: they are the first two arguments."""
    is_key_public: bool = False
    """`key` is not secret, such as a user name, and may be in a spec."""
    has_secret_file: bool = False
    """`secret` may be the path of a file."""
    has_sessions: bool = False
    """The driver logs in, and its session can expire before the credentials do."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the constructor, unless the spec has others."""
    identity: tuple[str, ...] = ()
    """Options that identify the account."""

    user_data: str = ""
    has_binary_user_data: bool = False
    """User data may be compressed; otherwise it must be text."""
    user_data_limit: int = 16384
    """Most bytes that the cloud accepts."""
    tags: str = ""
    """Argument for tags; if empty, they are in the node's name."""
    tag_format: labels.TagFormat = labels.PAIRS
    zone: str = "location"
    """`location`: an object; any other argument takes the zone's name. Empty: not supported."""
    needs_zone: bool = False
    spot: Mapping[str, Any] = field(default_factory=dict)
    disk: str = ""
    """Argument for the root disk's size, in GB."""
    token: str = ""
    fixed_arguments: Mapping[str, Any] = field(default_factory=dict)
    networks_argument: str = ""
    """Argument in `create` with names or IDs of networks."""
    list_arguments: tuple[str, ...] = ()
    """Arguments in `create` that must be lists; of a string, the driver would use each letter."""
    required_arguments: Mapping[str, str] = field(default_factory=dict)
    """Arguments that `create` must have, with examples."""

    tags_path: str = "tags"
    size_path: str = ""
    zone_path: str = ""
    has_only_size_id: bool = False
    """A node has only the ID of its size, which is not its name."""
    list_nodes_arguments: tuple[str, ...] = ()
    """Arguments in `create` that `list_nodes` needs, too."""
    max_name_length: int = 63

    parallel: int = 4
    consistency_delay: float = 60.0
    poll: float = 5.0
    rate: tuple[float, float] | None = None
    """Creates: burst, and rate per second."""
    is_deleted_when_off: bool = False
    """A VM that powers off is terminated, and costs nothing more."""
    cost_when_off: str = "costs as much as a running VM"
    """Cost of a VM that is powered off but not deleted, a phrase after the VM."""
    price_source: Literal["", "cloud", "libcloud"] = ""
    """Source of the prices in `list_sizes`."""
    has_monthly_prices: bool = False
    has_writes_by_get: bool = False
    """The cloud's API changes objects by GET."""
    is_destroyed_by_id: bool = True
    """`destroy_node` needs only the ID of a node."""
    error_kinds: Mapping[str, ErrorKind] = field(default_factory=dict)
    """The cloud's codes or phrases for a create that it accepted, but that made no VM."""

    @property
    def has_tags(self) -> bool:
        """Whether tags are stored other than in the name."""
        return bool(self.tags)

    def node_name(self, request: LaunchRequest) -> str:
        """Return the VM's name; no other attempt, node, or cluster has it."""
        name = labels.NodeName.from_tags(request.tags, request.names[0], request.token)
        return (
            name.format_short(self.max_name_length)
            if self.has_tags
            else name.format_full(self.max_name_length)
        )

    def make_arguments(
        self, request: LaunchRequest, create: Mapping[str, Any], lookups: Lookups
    ) -> Any:
        """Return all arguments of `create_node`; `create` has the spec's."""
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
        """Return what is wrong with these tags, a phrase after the cloud's name; empty if nothing."""
        if not self.has_tags:
            return "does not support tags" if user_tags(tags) else ""
        return self.tag_format.find_error(tags)

    def token_of(self, node: Any) -> str | None:
        """Return the token of the request that launched a node; None if the cloud does not report it."""
        return None

    def tags_of(self, node: Any) -> Tags:
        """Return planapply's tags of a node; empty for a node that is not planapply's."""
        if self.has_tags:
            return self.tag_format.decode(get_path(node.extra, self.tags_path))
        name = labels.NodeName.parse(node.name or "")
        return name.tags if name else {}

    def size_of(self, node: Any) -> str | None:
        """Return the size's name, if the node has it."""
        found = get_path(node.extra, self.size_path) if self.size_path else node.size
        found = getattr(found, "id", found)
        return str(found).rpartition("/")[2] if found else None

    def zone_of(self, node: Any) -> str | None:
        """Return the zone's name, if the node has it."""
        found = get_path(node.extra, self.zone_path)
        found = getattr(found, "name", found)
        return str(found) if found else None

    def status_of(self, node: Any) -> str:
        """Return Libcloud's name for a node's state."""
        return str(node.state)

    def is_spot(self, node: Any) -> bool:
        """Return whether the node is a spot VM, as far as it shows."""
        return False

    def patch_driver(self, lib: Any) -> None:
        """Fix errors in a new driver object of Libcloud's."""

    def find_account(self, lib: Any) -> dict[str, str]:
        """Return facts that identify the account, if only the cloud has them."""
        return {}

    def on_created(self, lib: Any, node: Any, name: str) -> None:
        """Correct a new node, for a driver that loses its name."""

    def list_nodes(
        self, lib: Any, tags: Mapping[str, str], create: Mapping[str, Any]
    ) -> Sequence[Any]:
        """Return all nodes that may have `tags`; the number of calls does not grow with their number."""
        known = {key: create[key] for key in self.list_nodes_arguments if key in create}
        nodes: Sequence[Any] = lib.list_nodes(**known)
        return nodes

    def find_image(self, lib: Any, name: str) -> Any:
        """Return the image with that ID, or None to search the list."""
        return None

    def list_sizes(self, lib: Any, zone: str | None) -> Sequence[Any]:
        """Return all sizes."""
        sizes: Sequence[Any] = lib.list_sizes()
        return sizes

    def list_zones(self, lib: Any) -> Sequence[str]:
        """Return the zones by name; empty if the cloud does not report them."""
        return ()

    def list_networks(self, lib: Any) -> Sequence[Any]:
        """Return the networks that names in `create` may mean."""
        return ()

    def destroy(self, lib: Any, node: Any) -> None:
        """Terminate a node, and delete what was created for it."""
        lib.destroy_node(node)

    def clean_up_failed(self, lib: Any, name: str, create: Mapping[str, Any]) -> None:
        """Delete what a failed create has left."""


def is_scheduler(tags: Mapping[str, str]) -> bool:
    """Return whether this VM is the scheduler, whose address all nodes need."""
    return tags.get(TAG_GROUP) == SCHEDULER


__all__ = ["Driver", "LaunchRequest", "Lookups", "Tags", "is_scheduler"]
