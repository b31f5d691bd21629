"""What a few drivers can do beyond nodes: change tags, show a console, keep a firewall."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from planapply_libcloud.drivers.base import Driver

Rule = tuple[str, int, int, str]
"""Protocol (`any` for all), first and last port (0 and 0 for all), and who: a network, or `SELF`."""
SELF = "self"
INTERNAL_RULE: Rule = ("any", 0, 0, SELF)


@dataclass(frozen=True)
class Group:
    """What a cloud lets through to the VMs that are in it."""

    id: str
    name: str
    rules: frozenset[Rule]


@dataclass(frozen=True)
class FullDriver(Driver):
    """Each of its methods is one call or a few, and can be asked again."""

    group_kind: str = "security group"

    def console(self, lib: Any, id: str) -> str:
        """All that the VM printed, as far as the cloud keeps it."""
        raise NotImplementedError

    def retag(self, lib: Any, node: Any, tags: Mapping[str, str], removed: Sequence[str]) -> None:
        """Give the node these tags, which are all that it shall have."""
        raise NotImplementedError

    def list_groups(self, lib: Any) -> Iterable[Group]:
        """All that there are, planapply's or not."""
        raise NotImplementedError

    def create_group(self, lib: Any, name: str, create: Mapping[str, Any]) -> str:
        """An empty one, in the network that `create` puts VMs into; its id."""
        raise NotImplementedError

    def change_group(
        self, lib: Any, group: Group, added: Iterable[Rule], removed: Iterable[Rule]
    ) -> None:
        """Let in, then shut out."""
        raise NotImplementedError

    def remove_group(self, lib: Any, id: str) -> None:
        """Raises what the driver raises where it is in use."""
        raise NotImplementedError

    def list_members(self, lib: Any, group: Group) -> Sequence[str]:
        """What the VMs in it are called, whoever's they are; empty where that keeps nobody from
        removing it."""
        return ()

    def group_arguments(self, id: str, create: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of `create_node` that put a VM into it."""
        raise NotImplementedError

    def add_to_group(self, lib: Any, node: Any, id: str) -> None:
        """Put a VM that is there already into it, beside those that it is in."""
        raise NotImplementedError

    def remove_from_group(self, lib: Any, node: Any, id: str, create: Mapping[str, Any]) -> None:
        """Take a VM out of it, where no group can be removed that has one; a VM that is in no other
        comes into those that it would have been launched into."""
